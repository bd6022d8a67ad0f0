//! Patience with an agent that is away or busy: how long to wait, how often to ask, what to say.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::termination::say;

/// The first pause between two attempts: a restarted agent is soon back.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause that was not asked for.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The time that a step spends without an agent that works for it. An agent that makes progress
/// stops the clock; one that goes away again lets it run on, not start afresh.
#[derive(Debug)]
pub(crate) struct Patience {
    socket: PathBuf,
    limit: Duration,
    quiet: bool,
    spent: Duration,
    since: Option<Instant>,
    pause: Duration,
    told: Option<Instant>,
    told_busy: bool,
}

/// All the patience is used up, after this long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exhausted(pub(crate) Duration);

impl Patience {
    /// Patience with the agent of one socket.
    pub(crate) fn new(socket: PathBuf, limit: Duration, quiet: bool) -> Self {
        let pause = FIRST_PAUSE;
        let (spent, since, told) = (Duration::ZERO, None, None);
        Self { socket, limit, quiet, spent, since, pause, told, told_busy: false }
    }

    /// The agent is not there: waits a little, or for what it asked for when it was.
    ///
    /// # Errors
    ///
    /// When the limit is reached.
    pub(crate) fn away(&mut self, retry_after: Option<Duration>) -> Result<(), Exhausted> {
        let left = self.left()?;
        if self.told.is_none() {
            self.told = Some(Instant::now());
            let (path, limit) = (self.socket.display(), self.limit);
            self.say(format_args!("waiting for the agent at {path} ({limit:?})…"));
        }
        self.sleep(retry_after, left);
        Ok(())
    }

    /// The agent is there, and has too much to do.
    ///
    /// # Errors
    ///
    /// When the limit is reached.
    pub(crate) fn busy(&mut self, retry_after: Duration) -> Result<(), Exhausted> {
        let left = self.left()?;
        if !self.told_busy {
            self.told_busy = true;
            self.say(format_args!("the agent is busy: waiting ({:?})…", self.limit));
        }
        self.sleep(Some(retry_after), left);
        Ok(())
    }

    /// The agent answers.
    pub(crate) fn connected(&mut self) {
        if let Some(since) = self.told.take() {
            let waited = Duration::from_millis(
                u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
            );
            self.say(format_args!("the agent is there, after {waited:?}"));
        }
        self.pause = FIRST_PAUSE;
    }

    /// The agent works for this step.
    pub(crate) fn progressing(&mut self) {
        if let Some(since) = self.since.take() {
            self.spent += since.elapsed();
        }
    }

    fn left(&mut self) -> Result<Duration, Exhausted> {
        let waited = self.spent + self.since.get_or_insert_with(Instant::now).elapsed();
        match self.limit.checked_sub(waited) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => Err(Exhausted(waited)),
        }
    }

    /// Sleeps as long as it was asked for, or the growing pause, and up to half as long again, so
    /// that the steps of a node do not all come back at once. The last sleep ends with the limit.
    fn sleep(&mut self, asked: Option<Duration>, left: Duration) {
        let base = asked.filter(|asked| !asked.is_zero()).unwrap_or(self.pause);
        let jitter = base.min(Duration::from_secs(10)).mul_f64(random() / 2.0);
        std::thread::sleep(base.saturating_add(jitter).min(left));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        if !self.quiet {
            say(what);
        }
    }
}

/// A number from 0 to 1 that no two processes share; without the kernel's help, 0.5.
fn random() -> f64 {
    let mut bytes = [0; 4];
    let flags = rustix::rand::GetRandomFlags::NONBLOCK;
    match rustix::rand::getrandom(&mut bytes, flags) {
        Ok(4) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        _ => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(limit: Duration) -> Patience {
        Patience::new("/x".into(), limit, true)
    }

    #[test]
    fn none_at_all() {
        let start = Instant::now();
        assert!(patience(Duration::ZERO).away(None).is_err());
        assert!(patience(Duration::ZERO).busy(Duration::from_secs(60)).is_err());
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn it_ends_at_the_limit_whatever_is_asked_for() {
        let mut patience = patience(Duration::from_millis(60));
        let start = Instant::now();
        assert_eq!(patience.busy(Duration::from_secs(3600)), Ok(()));
        let Exhausted(waited) = patience.busy(Duration::from_secs(3600)).expect_err("over");
        assert!(waited >= Duration::from_millis(60) && start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn pauses_grow_and_stop_growing() {
        let mut patience = patience(Duration::MAX);
        let left = Duration::from_nanos(1);
        for _ in 0..20 {
            patience.sleep(None, left);
        }
        assert_eq!(patience.pause, LONGEST_PAUSE);
        patience.connected();
        assert_eq!(patience.pause, FIRST_PAUSE);
    }

    #[test]
    fn what_is_asked_for_is_obeyed() {
        let start = Instant::now();
        patience(Duration::from_secs(60)).busy(Duration::from_millis(40)).expect("patience");
        assert!(start.elapsed() >= Duration::from_millis(40));
    }

    #[test]
    fn progress_stops_the_clock_but_does_not_wind_it_back() {
        let mut patience = patience(Duration::from_millis(50));
        patience.away(Some(Duration::from_millis(20))).expect("patience");
        patience.progressing();
        let spent = patience.spent;
        assert!(spent >= Duration::from_millis(20));
        std::thread::sleep(Duration::from_millis(60));
        patience.away(Some(Duration::from_millis(1))).expect("the clock stood still");
        assert_eq!(patience.spent, spent);
        std::thread::sleep(Duration::from_millis(60));
        assert!(patience.away(None).is_err());
    }

    #[test]
    fn chance_is_within_bounds() {
        for _ in 0..1000 {
            assert!((0.0..=1.0).contains(&random()));
        }
    }
}
