//! Starting the probe, and what came of it.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

/// A probe that is yet to be started.
pub(crate) struct Probe(pub(crate) Command);

/// How a probe ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It did what it was asked to do, and printed this.
    Done(String),
    /// The kernel answered with this error number.
    Refused(i32),
    /// It was killed by this signal.
    Killed(i32),
    /// It was not confined, or did not understand; this was its complaint.
    Failed(String),
}

/// Killed by the seccomp filter.
pub(crate) const SIGSYS: End = End::Killed(libc::SIGSYS);

impl Probe {
    /// A probe with these options.
    pub(crate) fn new(options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jail-probe"));
        command.args(options).stdin(Stdio::null());
        Self(command)
    }

    /// One more argument.
    pub(crate) fn with(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    /// As a user without privileges; nothing changes if the tests have none.
    pub(crate) fn unprivileged(mut self) -> Self {
        if is_root() {
            use std::os::unix::process::CommandExt;
            self.0.uid(65534).gid(65534);
        }
        self
    }

    /// Runs it to its end with an action.
    pub(crate) fn run(mut self, action: &[&str]) -> End {
        let output = self.0.args(action).output().expect("the probe starts");
        end(output)
    }

    /// Starts it with an action that prints `ready` and goes on, and waits for that.
    pub(crate) fn start(mut self, action: &[&str]) -> Running {
        use std::io::BufRead;
        self.0.args(action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.0.spawn().expect("the probe starts");
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        stdout.read_line(&mut line).expect("the probe prints");
        assert_eq!(line, "ready\n", "{:?}", end(child.wait_with_output().expect("it ends")));
        Running(child)
    }
}

/// A probe that waits. It is ended when this is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// The bytes of a file beneath its directory in `/proc`.
    pub(crate) fn proc(&self, file: &str) -> Vec<u8> {
        let path = format!("/proc/{}/{file}", self.0.id());
        std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// A field of its `/proc/PID/status`.
    pub(crate) fn status(&self, field: &str) -> String {
        let status = String::from_utf8(self.proc("status")).expect("status is text");
        let value = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        value.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn end(output: Output) -> End {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    match (output.status.code(), output.status.signal()) {
        (Some(0), _) => End::Done(stdout),
        (Some(1), _) => End::Refused(stdout.parse().expect("the probe prints a number")),
        (_, Some(signal)) => End::Killed(signal),
        _ => End::Failed(stderr),
    }
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Waits for a child, but not for ever.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait().expect("the probe can be waited for") {
            return status;
        }
        assert!(std::time::Instant::now() < deadline, "the probe hangs");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
