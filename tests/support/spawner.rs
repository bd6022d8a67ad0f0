//! The thread from which programs are started, so that the kernel ends them with this process.
//!
//! `PR_SET_PDEATHSIG` means the death of the parent's *thread*, and a test's thread ends with the
//! test. This one never does.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Sender};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;
use std::{io, thread};

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

type Started = io::Result<(Instant, Child)>;

struct Request {
    command: Command,
    answer: Sender<Started>,
}

static SPAWNER: LazyLock<Mutex<Sender<Request>>> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::channel::<Request>();
    let run = move || {
        for Request { mut command, answer } in receiver {
            let before = Instant::now();
            let started = command.spawn().map(|child| (before, child));
            // Whoever asked may have panicked; the child's end is then this process's.
            let _ = answer.send(started);
        }
    };
    if let Err(error) = thread::Builder::new().name("spawner".to_owned()).spawn(run) {
        // The first request says so: its channel has no other end.
        eprintln!("no thread to start programs from: {error}");
    }
    Mutex::new(sender)
});

/// Starts a program that is killed when this process ends, however it ends; also tells when it was
/// about to be started.
pub(crate) fn spawn(mut command: Command) -> Started {
    let parent = getpid();
    // SAFETY: between fork and exec only two system calls are made, nothing is allocated.
    unsafe { command.pre_exec(move || end_with(parent)) };
    let (answer, receiver) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts programs is gone");
    let spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    spawner.send(Request { command, answer }).map_err(|_| gone())?;
    drop(spawner);
    receiver.recv().map_err(|_| gone())?
}

fn end_with(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before the kernel was told.
    if getppid() == Some(parent) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
}
