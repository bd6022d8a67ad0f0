//! What must go on as if there were no jail: signals, threads, memory, being stopped.

use std::os::unix::process::ExitStatusExt;

use crate::probe::{End, Probe, wait};

const PROFILES: [&str; 3] = ["preview1", "wasix", "compiler"];

const DONE: fn() -> End = || End::Done(String::new());

#[test]
fn a_signal_to_itself_arrives() {
    for profile in PROFILES {
        for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGABRT, libc::SIGFPE] {
            let end = Probe::new(&["--profile", profile]).run(&["raise", &signal.to_string()]);
            assert_eq!(end, End::Killed(signal), "{profile}");
        }
        assert_eq!(
            Probe::new(&["--profile", profile]).run(&["abort"]),
            End::Killed(libc::SIGABRT),
            "{profile}"
        );
    }
}

#[test]
fn a_handler_returns() {
    for profile in PROFILES {
        assert_eq!(Probe::new(&["--profile", profile]).run(&["handle"]), DONE(), "{profile}");
    }
}

#[test]
fn memory_is_to_be_had() {
    for profile in PROFILES {
        assert_eq!(Probe::new(&["--profile", profile]).run(&["allocate"]), DONE(), "{profile}");
    }
}

#[test]
fn threads_start() {
    for profile in ["wasix", "compiler"] {
        assert_eq!(Probe::new(&["--profile", profile]).run(&["threads"]), DONE(), "{profile}");
    }
}

/// A preview 1 step is one thread.
#[test]
fn threads_do_not_start_for_preview1() {
    let end = Probe::new(&["--profile", "preview1"]).run(&["threads"]);
    assert_eq!(end, crate::probe::SIGSYS);
}

/// Who was stopped while it waited for a time goes on waiting, with `restart_syscall` where it waits
/// for a lock.
#[test]
fn stopping_and_continuing_is_no_harm() {
    let cases = [("preview1", "poll"), ("wasix", "lock"), ("compiler", "lock")];
    for (profile, how) in cases {
        let mut running = Probe::new(&["--profile", profile]).start(&["sleep", how]);
        let process = rustix::process::Pid::from_child(&running.0);
        for signal in [rustix::process::Signal::STOP, rustix::process::Signal::CONT] {
            std::thread::sleep(std::time::Duration::from_millis(50));
            rustix::process::kill_process(process, signal).expect("the probe is there");
        }
        let status = wait(&mut running.0);
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{profile}");
    }
}
