//! Hot hello beside the floor of every process: a static program that does nothing.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use warmstep_tests::figures::Quartiles;
use warmstep_tests::{Agent, interrupt, paths};

use crate::steps::Ready;

/// How often every program is run, one after the other in each round, so that what disturbs the
/// machine disturbs them alike.
pub(crate) const ROUNDS: usize = 400;

/// Rounds that are not counted: the first runs fill caches.
const WARM_UP: usize = 20;

/// The programs that are compared, with the no-op first.
pub(crate) struct Floor {
    pub(crate) programs: Vec<Timed>,
}

/// One program's times.
pub(crate) struct Timed {
    pub(crate) name: String,
    /// In milliseconds.
    pub(crate) time: Quartiles,
    /// Against the no-op program of the same round.
    pub(crate) ratio: Quartiles,
}

/// Measures the no-op program and the two hellos, which must be hot.
pub(crate) fn measure(agent: &Agent, ready: &[Ready]) -> Result<Floor> {
    let noop = paths::root().join("target/demo/noop");
    ensure!(noop.is_file(), "{} is missing: run make demo", noop.display());
    let mut programs = vec![("a static no-op program in C".to_owned(), Command::new(noop))];
    for (example, label) in [("hello.wat", "WAT"), ("hello", "Rust")] {
        let ready = ready.iter().find(|ready| ready.example.name == example);
        let ready = ready.with_context(|| format!("{example} was not pushed"))?;
        let step = agent.step(&ready.reference);
        programs.push((format!("hot hello, {label}, {} B", ready.size), step.command()?));
    }
    for (_, command) in &mut programs {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    }

    let mut times: Vec<Vec<Duration>> = vec![Vec::with_capacity(ROUNDS); programs.len()];
    for round in 0..WARM_UP + ROUNDS {
        interrupt::check()?;
        for ((name, command), times) in programs.iter_mut().zip(&mut times) {
            let time = run(name, command)?;
            if round >= WARM_UP {
                times.push(time);
            }
        }
    }
    let floor = times.first().cloned().unwrap_or_default();
    let timed = |((name, _), times): ((String, Command), Vec<Duration>)| Timed {
        name,
        time: Quartiles::of(times.iter().map(|time| time.as_secs_f64() * 1e3)),
        ratio: Quartiles::of(
            times.iter().zip(&floor).map(|(time, noop)| time.as_secs_f64() / noop.as_secs_f64()),
        ),
    };
    Ok(Floor { programs: programs.into_iter().zip(times).map(timed).collect() })
}

fn run(name: &str, command: &mut Command) -> Result<Duration> {
    let before = Instant::now();
    let status = command.status().with_context(|| name.to_owned())?;
    let time = before.elapsed();
    ensure!(status.success(), "{name} ended with {status}");
    Ok(time)
}
