//! A step, run through the real shim.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use tempfile::tempfile;

use crate::program::{Waited, code};
use crate::{interrupt, paths};

/// How long a step may take: cold Ruby on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(180);

/// A call of `warmstep run`, as it is put together.
#[derive(Clone, Debug)]
pub struct Step {
    socket: OsString,
    module: OsString,
    flags: Vec<OsString>,
    arguments: Vec<OsString>,
    stdin: Vec<u8>,
    environment: Vec<(OsString, OsString)>,
    deadline: Duration,
}

impl Step {
    /// A step for the agent on `socket`.
    pub fn new(socket: &Path, module: &OsStr) -> Self {
        Self {
            socket: socket.into(),
            module: module.into(),
            flags: Vec::new(),
            arguments: Vec::new(),
            stdin: Vec::new(),
            environment: Vec::new(),
            deadline: DEADLINE,
        }
    }

    /// The module's arguments.
    #[must_use]
    pub fn arguments<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Grants a directory to read and write.
    #[must_use]
    pub fn directory(self, host: impl AsRef<OsStr>, guest: &str) -> Self {
        let mut value = host.as_ref().to_owned();
        value.push(":");
        value.push(guest);
        self.flag("--dir").flag(value)
    }

    /// Grants a directory to read.
    #[must_use]
    pub fn readable(self, host: impl AsRef<OsStr>, guest: &str) -> Self {
        self.directory(host, &format!("{guest}:ro"))
    }

    /// Any flag of `warmstep run`, or its value.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<OsString>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// What the step reads from its standard input; nothing otherwise.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// A variable of the shim's own environment, which is empty otherwise.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// How long it may take before it is killed and the test fails; 180 s otherwise.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The command that starts it.
    ///
    /// # Errors
    ///
    /// When the shim has not been built.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(paths::program("warmstep")?);
        command.env_clear().envs(self.environment.iter().cloned());
        command.arg("run").arg("--socket").arg(&self.socket).args(&self.flags).arg(&self.module);
        if !self.arguments.is_empty() {
            command.arg("--").args(&self.arguments);
        }
        Ok(command)
    }

    /// Starts it, and feeds and reads it from threads.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(self) -> Result<Running> {
        let mut command = self.command()?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
        let mut waited = Waited::spawn(command)?;
        if let Some(mut stdin) = waited.child.stdin.take() {
            let bytes = self.stdin;
            // A step may end before it has read everything; then the pipe breaks, as it should.
            thread::spawn(move || stdin.write_all(&bytes));
        }
        let stdout = collect(waited.child.stdout.take());
        let stderr = collect(waited.child.stderr.take());
        Ok(Running { waited, stdout, stderr, module: self.module, deadline: self.deadline })
    }

    /// Starts it and waits for its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started or is over its deadline; not when it fails.
    pub fn run(self) -> Result<Ended> {
        self.start()?.wait()
    }

    /// As [`Step::run`], for measurements: with files instead of pipes and threads, without a
    /// deadline, and started as a shell would start it, which costs a millisecond less.
    ///
    /// # Errors
    ///
    /// When it cannot be started; not when it fails.
    pub fn run_bare(self) -> Result<Ended> {
        let (mut stdin, mut stdout, mut stderr) = (tempfile()?, tempfile()?, tempfile()?);
        stdin.write_all(&self.stdin)?;
        stdin.rewind()?;
        let mut command = self.command()?;
        command.stdin(stdin).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        let before = Instant::now();
        let status = command.status()?;
        let wall = before.elapsed();
        interrupt::check()?;
        Ok(Ended { code: code(status), stdout: all(&mut stdout)?, stderr: all(&mut stderr)?, wall })
    }
}

fn all(file: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks has given what there was.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// A step that was started; killed when dropped.
#[derive(Debug)]
pub struct Running {
    waited: Waited,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
    module: OsString,
    deadline: Duration,
}

impl Running {
    /// Its process id: the shim's, and then the runner's.
    pub fn pid(&self) -> Pid {
        self.waited.pid()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// As `kill(2)`.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.waited.signal(signal)
    }

    /// Waits for its end and all of its output.
    ///
    /// # Errors
    ///
    /// When it is over its deadline; it is killed then.
    pub fn wait(mut self) -> Result<Ended> {
        let status = self.waited.wait(self.deadline)?;
        let wall = self.waited.started.elapsed();
        if status.is_none() {
            self.waited.kill();
        }
        let (stdout, stderr) = (joined(self.stdout)?, joined(self.stderr)?);
        let Some(status) = status else {
            bail!(
                "the step {} has not ended after {:?}; its stderr: {}",
                self.module.display(),
                self.deadline,
                String::from_utf8_lossy(&stderr)
            );
        };
        interrupt::check()?;
        Ok(Ended { code: code(status), stdout, stderr, wall })
    }
}

fn joined(reader: JoinHandle<Vec<u8>>) -> Result<Vec<u8>> {
    reader.join().ok().context("the thread that reads a step's output panicked")
}

/// How a step ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The exit code as a shell has it: 128 and the number for a signal.
    pub code: i32,
    /// Everything it wrote to standard output.
    pub stdout: Vec<u8>,
    /// Everything it wrote to standard error, the shim's own lines included.
    pub stderr: Vec<u8>,
    /// From just before the shim was started until it was seen to have ended.
    pub wall: Duration,
}

impl Ended {
    /// Standard output, for people and comparisons.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error, for people and comparisons.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}
