//! A real agent with a socket, a cache and a configuration of its own.

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::program::Program;
use crate::registry::Registry;
use crate::status::{Record, Status};
use crate::step::Step;
use crate::{interrupt, paths};

/// How long it may take to serve.
const START: Duration = Duration::from_secs(30);

/// How long a stopped agent may take to end: its own drain is 25 s.
const STOP: Duration = Duration::from_secs(35);

/// How an agent is to be started.
#[derive(Debug, Default)]
pub struct Builder {
    settings: String,
    tables: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Builder {
    /// Lets it pull from a registry, with its password if it has one.
    #[must_use]
    pub fn registry(mut self, registry: &Registry) -> Self {
        // Writing to a String cannot fail.
        let _ = writeln!(self.tables, "[registry.\"{}\"]\nplain_http = true", registry.host());
        self
    }

    /// A line for the configuration file before its first table, such as `tag_ttl = "1s"`.
    #[must_use]
    pub fn setting(mut self, line: &str) -> Self {
        let _ = writeln!(self.settings, "{line}");
        self
    }

    /// Tables for the configuration file, such as `[limits]` and what is in it.
    #[must_use]
    pub fn tables(mut self, text: &str) -> Self {
        let _ = writeln!(self.tables, "{text}");
        self
    }

    /// A further flag of `warmstep-agent serve`.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// A variable of the agent's environment, which is empty otherwise.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it serves.
    ///
    /// # Errors
    ///
    /// When it does not come up; the end of its log is part of the error.
    pub fn start(self) -> Result<Agent> {
        let scratch = TempDir::with_prefix("warmstep-agent-")?;
        let configuration = format!("{}{}", self.settings, self.tables);
        fs::write(scratch.path().join("agent.toml"), configuration)?;
        let mut agent = Agent { program: None, scratch, how: self };
        agent.start()?;
        Ok(agent)
    }
}

/// An agent, gone with its cache when dropped.
#[derive(Debug)]
pub struct Agent {
    program: Option<Program>,
    // After `program`, so that what still runs does not lose its files.
    scratch: TempDir,
    how: Builder,
}

impl Agent {
    /// An agent is described, then started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts it again after it was stopped or killed, with the same cache.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`].
    pub fn start(&mut self) -> Result<()> {
        if self.program.is_some() {
            bail!("the agent is running already");
        }
        let mut program = Program::start("warmstep-agent", self.command()?, &self.log_path())?;
        program.until(START, |_| {
            UnixStream::connect(self.socket()).ok()?;
            self.status().ok()
        })?;
        self.program = Some(program);
        Ok(())
    }

    /// The command that starts this agent, to start a second one that must refuse.
    ///
    /// # Errors
    ///
    /// When the agent has not been built.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(paths::program("warmstep-agent")?);
        command.env_clear().env("RUST_BACKTRACE", "1").envs(self.how.environment.iter().cloned());
        command.arg("serve").arg("--config").arg(self.scratch.path().join("agent.toml"));
        command.arg("--socket").arg(self.socket()).arg("--cache").arg(self.cache());
        command.args(&self.how.arguments);
        Ok(command)
    }

    /// Ends it with SIGTERM and waits: its exit code.
    ///
    /// # Errors
    ///
    /// When it is not running, or does not end in time.
    pub fn stop(&mut self) -> Result<i32> {
        let mut program = self.program.take().context("the agent is not running")?;
        program.signal(Signal::TERM)?;
        program.wait(STOP)
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn kill(&mut self) -> Result<()> {
        let mut program = self.program.take().context("the agent is not running")?;
        program.signal(Signal::KILL)?;
        program.wait(STOP).map(drop)
    }

    /// The running program, to look at or to signal.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn program(&mut self) -> Result<&mut Program> {
        self.program.as_mut().context("the agent is not running")
    }

    /// The socket on which it serves.
    pub fn socket(&self) -> PathBuf {
        self.scratch.path().join("agent.sock")
    }

    /// The directory of its cache.
    pub fn cache(&self) -> PathBuf {
        self.scratch.path().join("cache")
    }

    /// A directory that goes when the agent goes.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    /// Everything it has logged, over all its starts.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.log_path())?).into_owned())
    }

    /// A step that this agent will be asked for.
    pub fn step(&self, module: impl AsRef<OsStr>) -> Step {
        Step::new(&self.socket(), module.as_ref())
    }

    /// Runs `warmstep-agent SUBCOMMAND … --cache DIR` against it.
    ///
    /// # Errors
    ///
    /// When it cannot be started; its own failure is in the output.
    pub fn ask<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Result<Output> {
        let mut command = Command::new(paths::program("warmstep-agent")?);
        command.env_clear().stdin(Stdio::null()).args(arguments);
        Ok(command.arg("--cache").arg(self.cache()).output()?)
    }

    /// What `warmstep-agent status` says.
    ///
    /// # Errors
    ///
    /// When the agent does not answer.
    pub fn status(&self) -> Result<Status> {
        let output = self.ask(["status", "--output", "json"])?;
        if !output.status.success() {
            bail!("status: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        serde_json::from_slice(&output.stdout).context("status speaks no JSON")
    }

    /// Asks for the status again and again until it is as wanted.
    ///
    /// # Errors
    ///
    /// When the time is over; the last status is part of the error.
    pub fn until(&self, most: Duration, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        let deadline = Instant::now() + most;
        loop {
            interrupt::check()?;
            let status = self.status()?;
            if wanted(&status) {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the agent is not as wanted after {most:?}: {status:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The records of the last steps, oldest first, once there are `ended` of them: the agent notes
    /// a step a moment after the step's process is gone. It remembers 256.
    ///
    /// # Errors
    ///
    /// When there are not so many within 10 s.
    pub fn records(&self, ended: usize) -> Result<Vec<Record>> {
        let most = Duration::from_secs(10);
        Ok(self.until(most, |status| status.recent.len() >= ended)?.recent)
    }

    /// The record of the step that ended last, as [`Agent::records`] has it.
    ///
    /// # Errors
    ///
    /// When there are not so many within 10 s.
    pub fn last_record(&self, ended: usize) -> Result<Record> {
        self.records(ended)?.pop().context("no step has ended")
    }
}
