//! Where the cache's files can be made to fail: every change of the disk passes here, and in tests
//! one of them can end the process or come back with an error. Outside tests this is nothing.

/// Does one change of the disk.
#[cfg(not(test))]
pub(crate) fn change<T>(change: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    change()
}

#[cfg(test)]
pub(crate) use planned::{Fault, change, plan, reached};

#[cfg(test)]
mod planned {
    use std::cell::Cell;
    use std::io;

    use rustix::io::Errno;

    /// What goes wrong.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Fault {
        /// The process is killed, as by SIGKILL, just before the change.
        Kill,
        /// The change fails with this error, as on a full or a broken disk.
        Error(Errno),
        /// This is done, and then the process is killed.
        Disaster(fn()),
    }

    thread_local! {
        static PLANNED: Cell<Option<(usize, Fault)>> = const { Cell::new(None) };
        static REACHED: Cell<usize> = const { Cell::new(0) };
    }

    /// Plans a fault for the change of this number, from now, on this thread; or none.
    pub(crate) fn plan(fault: Option<(usize, Fault)>) {
        PLANNED.set(fault);
        REACHED.set(0);
    }

    /// How many changes there were since [`plan`].
    pub(crate) fn reached() -> usize {
        REACHED.get()
    }

    /// Does one change of the disk, or what is planned instead.
    pub(crate) fn change<T>(change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let number = REACHED.get();
        REACHED.set(number + 1);
        match PLANNED.get() {
            Some((planned, Fault::Error(error))) if planned == number => Err(error.into()),
            Some((planned, fault)) if planned == number => {
                if let Fault::Disaster(disaster) = fault {
                    disaster();
                }
                let _ = rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                );
                unreachable!("this process was killed")
            }
            _ => change(),
        }
    }
}
