//! Runs a module with the real runner, as the shim would: a connection, a plan, an artifact.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod artifact;
pub(crate) mod calls;
pub(crate) mod field;
pub(crate) mod puppet;
pub(crate) mod refuse;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use minicbor::bytes::ByteVec;
use rustix::fs::MemfdFlags;
use warmstep_wire::frame::{self, Kind};
use warmstep_wire::message::{DirectoryGrant, Outcome, PathGrant, Variable};
use warmstep_wire::plan::Plan;

use self::artifact::Artifact;

/// The runner under test.
pub(crate) const RUNNER: &str = env!("CARGO_BIN_EXE_warmstep-run");

/// How long the outcome of a step that ended is waited for.
const OUTCOME: Duration = Duration::from_secs(10);

/// A step to run.
pub(crate) struct Step {
    artifact: Artifact,
    plan: Plan,
    plan_bytes: Option<Vec<u8>>,
    prepare: fn(&UnixStream),
    stdin: Stdio,
    stdout: Stdio,
    stderr: Stdio,
}

/// A step that runs.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) connection: UnixStream,
}

/// How a step ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) outcome: Option<Outcome>,
}

impl Step {
    /// A step of a module in the text format.
    pub(crate) fn wat(text: &str) -> Self {
        Self::wasm(&wat::parse_str(text).expect("the test's module is valid"))
    }

    /// A step of a binary module.
    pub(crate) fn wasm(wasm: &[u8]) -> Self {
        Self::artifact(artifact::compile(wasm))
    }

    /// A step of a compiled module.
    pub(crate) fn artifact(artifact: Artifact) -> Self {
        let plan = Plan {
            module: "test.wasm".into(),
            digest: "0".repeat(64),
            arguments: vec![ByteVec::from(b"test.wasm".to_vec())],
            environment: Vec::new(),
            directories: Vec::new(),
            network: Vec::new(),
            memory: 1 << 30,
            timeout: 60_000,
            whole_jail: None,
            paths: Vec::new(),
        };
        Self {
            artifact,
            plan,
            plan_bytes: None,
            prepare: |_| {},
            stdin: Stdio::null(),
            stdout: Stdio::piped(),
            stderr: Stdio::piped(),
        }
    }

    /// The module's name for itself, instead of `test.wasm`.
    pub(crate) fn name(mut self, name: &str) -> Self {
        self.plan.arguments[0] = name.as_bytes().to_vec().into();
        self
    }

    pub(crate) fn argument(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.plan.arguments.push(argument.as_ref().to_vec().into());
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        let (name, value) = (name.as_bytes().to_vec().into(), value.as_bytes().to_vec().into());
        self.plan.environment.push(Variable { name, value });
        self
    }

    pub(crate) fn directory(self, host: &Path, guest: &str) -> Self {
        self.grant(host, guest, false)
    }

    pub(crate) fn grant(mut self, host: &Path, guest: &str, read_only: bool) -> Self {
        self.plan.directories.push(DirectoryGrant {
            host: host.as_os_str().as_encoded_bytes().to_vec().into(),
            guest: guest.as_bytes().to_vec().into(),
            read_only,
        });
        self
    }

    /// Grants one path, under another name.
    pub(crate) fn path(mut self, host: &Path, guest: &str, read_only: bool) -> Self {
        self.plan.paths.push(PathGrant {
            host: host.as_os_str().as_encoded_bytes().to_vec().into(),
            guest: guest.as_bytes().to_vec().into(),
            read_only,
        });
        self
    }

    pub(crate) fn memory(mut self, bytes: u64) -> Self {
        self.plan.memory = bytes;
        self
    }

    pub(crate) fn timeout(mut self, milliseconds: u64) -> Self {
        self.plan.timeout = milliseconds;
        self
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = stdin.into();
        self
    }

    pub(crate) fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = stdout.into();
        self
    }

    pub(crate) fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = stderr.into();
        self
    }

    /// These bytes instead of a plan.
    pub(crate) fn plan_bytes(mut self, bytes: &[u8]) -> Self {
        self.plan_bytes = Some(bytes.to_vec());
        self
    }

    /// Does something with the runner's end of the connection before it starts.
    pub(crate) fn prepare(mut self, prepare: fn(&UnixStream)) -> Self {
        self.prepare = prepare;
        self
    }

    /// Starts it.
    pub(crate) fn start(self) -> Running {
        self.start_with(|runner| Command::new(runner))
    }

    /// Starts it by way of another command.
    pub(crate) fn start_with(self, command: impl FnOnce(&str) -> Command) -> Running {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        (self.prepare)(&theirs);
        let plan = memfd(&self.plan_bytes.unwrap_or_else(|| self.plan.encode()));
        let mut lent: Vec<OwnedFd> = vec![theirs.into(), plan, self.artifact.module];
        lent.extend(self.artifact.image);
        let numbers: Vec<RawFd> = lent.iter().map(AsRawFd::as_raw_fd).collect();
        let mut command = command(RUNNER);
        command
            .args(numbers.iter().map(ToString::to_string))
            .env_clear()
            .stdin(self.stdin)
            .stdout(self.stdout)
            .stderr(self.stderr);
        keep_open(&mut command, numbers);
        let child = command.spawn().expect("the runner starts");
        Running { child, connection: ours }
    }

    /// Runs it to its end, and says how long its process took from its start.
    pub(crate) fn timed(self) -> (Duration, Ended) {
        let mut before = Instant::now();
        let mut running = self.start_with(|runner| {
            before = Instant::now();
            Command::new(runner)
        });
        running.child.wait().expect("it ends");
        (before.elapsed(), running.wait())
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Ended {
        self.start().wait()
    }

    /// Runs it to its end with bytes on its standard input.
    pub(crate) fn run_with(self, input: &[u8]) -> Ended {
        let mut running = self.stdin(Stdio::piped()).start();
        let mut stdin = running.child.stdin.take().expect("it is piped");
        let input = input.to_vec();
        // A module may end without reading all of it.
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let ended = running.wait();
        writer.join().expect("the writer does not panic");
        ended
    }
}

/// Clears close-on-exec in the child, between fork and exec.
pub(crate) fn keep_open(command: &mut Command, numbers: Vec<RawFd>) {
    // SAFETY: the closure makes only system calls, and the numbers are open until after spawning.
    unsafe {
        command.pre_exec(move || {
            for number in &numbers {
                let number = std::os::fd::BorrowedFd::borrow_raw(*number);
                rustix::io::fcntl_setfd(number, rustix::io::FdFlags::empty())?;
            }
            Ok(())
        });
    }
}

impl Running {
    /// Waits for its end.
    pub(crate) fn wait(self) -> Ended {
        let Self { child, connection } = self;
        let output = child.wait_with_output().expect("the runner can be waited for");
        Ended {
            status: output.status,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            outcome: outcome(&connection),
        }
    }
}

/// The outcome that the runner sent, if it did.
pub(crate) fn outcome(connection: &UnixStream) -> Option<Outcome> {
    connection.set_read_timeout(Some(OUTCOME)).expect("a timeout can be set");
    let received = frame::receive::<Outcome>(connection.as_fd(), Kind::Outcome);
    received.ok().map(|(outcome, _)| outcome)
}

impl Ended {
    /// The exit code; a step that was killed by a signal has none.
    pub(crate) fn code(&self) -> i32 {
        assert_eq!(self.status.signal(), None, "{self:?}");
        self.status.code().expect("it exited")
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn outcome(&self) -> &Outcome {
        self.outcome.as_ref().expect("the runner sent its outcome")
    }

    /// Panics unless it ended well.
    pub(crate) fn success(self) -> Self {
        assert_eq!(self.code(), 0, "{self:?}");
        self
    }
}

/// An unnamed file with these bytes.
pub(crate) fn memfd(bytes: &[u8]) -> OwnedFd {
    let fd = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).expect("a memfd");
    let mut file = File::from(fd);
    file.write_all(bytes).expect("memory to write to");
    file.into()
}

/// All that a file has from its beginning.
pub(crate) fn contents(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).expect("the file is there");
    file.read_to_end(&mut bytes).expect("it can be read");
    bytes
}
