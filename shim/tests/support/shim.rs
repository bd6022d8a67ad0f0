//! Starting the shim, and seeing how it ends.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// No step of a test takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// How the shim, or what it became, ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Since its start, or since it was waited for.
    pub(crate) after: Duration,
}

impl Ended {
    /// Checks the exit code, and that stderr is one line with these words in it.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(self.stderr.starts_with("warmstep: "), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in {self:?}");
        }
    }
}

/// `warmstep run` with an empty environment, the socket, and then these arguments.
pub(crate) fn run<S: AsRef<OsStr>>(socket: &Path, arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warmstep"));
    command.env_clear().arg("run").arg("--socket").arg(socket).args(arguments);
    command
}

/// Starts a command with nothing on stdin.
pub(crate) fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the shim starts")
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Ended {
    let begun = Instant::now();
    let ended = wait(start(command));
    Ended { after: begun.elapsed(), ..ended }
}

/// Waits for the end of a child, which is killed when it does not come.
pub(crate) fn wait(child: Child) -> Ended {
    let begun = Instant::now();
    let pid = Pid::from_child(&child);
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let output: Output = match receiver.recv_timeout(DEADLINE) {
        Ok(output) => output.expect("the shim ends"),
        Err(RecvTimeoutError::Timeout) => {
            kill_process(pid, Signal::KILL).expect("the shim is killed");
            let output = receiver.recv().expect("an end").expect("the shim ends");
            panic!("the shim did not end: {}", String::from_utf8_lossy(&output.stderr));
        }
        Err(RecvTimeoutError::Disconnected) => unreachable!("the waiting thread always sends"),
    };
    Ended {
        code: output.status.code(),
        signal: output.status.signal(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        after: begun.elapsed(),
    }
}
