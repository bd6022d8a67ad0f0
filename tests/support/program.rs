//! A program that was started here: waited for with a deadline, ended by its process id.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::{interrupt, spawner};

/// How long a program may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// How much of a log is shown, in lines.
const SHOWN_LOG: usize = 60;

/// How long a wait sleeps before it looks whether this process is to end.
const SLICE: Duration = Duration::from_millis(200);

/// A child with a deadline for every wait.
#[derive(Debug)]
pub(crate) struct Waited {
    pub(crate) child: Child,
    /// When it was about to be started.
    pub(crate) started: Instant,
    pidfd: OwnedFd,
    status: Option<ExitStatus>,
}

impl Waited {
    pub(crate) fn spawn(command: Command) -> Result<Self> {
        let name = command.get_program().display().to_string();
        let (started, child) = spawner::spawn(command).with_context(|| name.clone())?;
        let pidfd = pidfd_open(pid(&child), PidfdFlags::empty()).with_context(|| name)?;
        Ok(Self { child, started, pidfd, status: None })
    }

    pub(crate) fn pid(&self) -> Pid {
        pid(&self.child)
    }

    /// Its status, if it ends in time.
    pub(crate) fn wait(&mut self, most: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + most;
        while self.status.is_none() {
            interrupt::check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if self.ends_within(left.min(SLICE))? {
                self.status = Some(self.child.wait()?);
            } else if left.is_zero() {
                break;
            }
        }
        Ok(self.status)
    }

    fn ends_within(&self, most: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(most).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        if self.status.is_none() {
            kill_process(self.pid(), signal)?;
        }
        Ok(())
    }

    /// Ends it for good, in silence: there is nobody to tell.
    pub(crate) fn kill(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
    }
}

impl Drop for Waited {
    fn drop(&mut self) {
        self.kill();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// A server: its output goes to a file, which is shown when a test fails.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    waited: Waited,
    log: PathBuf,
}

impl Program {
    /// Starts it; what it writes is appended to `log`.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or its log cannot be written.
    pub fn start(name: &'static str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Self { name, waited: Waited::spawn(command)?, log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.waited.pid()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.waited.wait(Duration::ZERO)?.is_none())
    }

    /// What it has written so far.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| self.log.display().to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Asks `ready` again and again until it has an answer.
    ///
    /// # Errors
    ///
    /// When the program ends, or the time is over; the end of its log is part of the error.
    pub fn until<T>(
        &mut self,
        most: Duration,
        mut ready: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + most;
        loop {
            if let Some(answer) = ready(self) {
                return Ok(answer);
            }
            if let Some(status) = self.waited.wait(Duration::from_millis(5))? {
                bail!("{} ended with {status}:\n{}", self.name, self.end_of_log());
            }
            if Instant::now() > deadline {
                bail!("{} is not ready after {most:?}:\n{}", self.name, self.end_of_log());
            }
        }
    }

    /// Sends it a signal, unless it has ended already.
    ///
    /// # Errors
    ///
    /// As `kill(2)`.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.waited.signal(signal)
    }

    /// Waits for its end: the code, or 128 and the signal.
    ///
    /// # Errors
    ///
    /// When it does not end in time.
    pub fn wait(&mut self, most: Duration) -> Result<i32> {
        match self.waited.wait(most)? {
            Some(status) => Ok(code(status)),
            None => bail!("{} has not ended after {most:?}:\n{}", self.name, self.end_of_log()),
        }
    }

    /// The processor time it has used so far, its own and the kernel's for it.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn processor_time(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.pid().as_raw_nonzero());
        let stat = fs::read_to_string(&path).context(path.clone())?;
        // The name, in brackets, may hold anything; utime and stime are fields 14 and 15 (proc(5)).
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
        Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second())?)
    }

    /// The resident set, in bytes.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid().as_raw_nonzero());
        let status = fs::read_to_string(&path).context(path.clone())?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kibibytes.with_context(|| format!("{path} names no VmRSS"))? * 1024)
    }

    fn end_of_log(&self) -> String {
        let log = self.log().unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LOG)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of {}'s log ---\n{}\n---", self.name, self.end_of_log());
        }
        let deadline = Instant::now() + GRACE;
        let _ = self.waited.signal(Signal::TERM);
        // Not `wait`, which gives up at once when this process is to end.
        while self.waited.status.is_none() && Instant::now() < deadline {
            if self.waited.ends_within(SLICE).unwrap_or(true) {
                break;
            }
        }
        self.waited.kill();
    }
}

/// The exit code as a shell has it: 128 and the number for a signal.
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
