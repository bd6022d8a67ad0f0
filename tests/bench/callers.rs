//! Steps per second, with one caller and with many at once.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use warmstep_tests::figures::Quartiles;
use warmstep_tests::interrupt;

use crate::stand::{Runtime, Stand};
use crate::task;

/// How many call at once, each as soon as its last step has ended.
pub(crate) const CALLERS: [usize; 3] = [1, 8, 64];

/// How long they call in each round, and how often at most.
const WINDOW: Duration = Duration::from_secs(1);
const MOST: u64 = 5_000;

/// What one number of callers had done.
pub(crate) struct Rates {
    pub(crate) callers: usize,
    /// By runtime, in each round, in steps a second.
    pub(crate) rates: Vec<(Runtime, Vec<f64>)>,
}

impl Rates {
    /// The rates of one runtime.
    pub(crate) fn rate(&self, runtime: Runtime) -> Option<Quartiles> {
        Some(Quartiles::of(self.of(runtime)?.iter().copied()))
    }

    /// The rates of one runtime against those of another in the same rounds.
    pub(crate) fn ratio(&self, one: Runtime, other: Runtime) -> Option<Quartiles> {
        let pairs = self.of(one)?.iter().zip(self.of(other)?);
        Some(Quartiles::of(pairs.map(|(one, other)| one / other)))
    }

    fn of(&self, runtime: Runtime) -> Option<&[f64]> {
        let found = self.rates.iter().find(|(found, _)| *found == runtime);
        found.map(|(_, rates)| rates.as_slice())
    }
}

/// Measures the smallest module.
pub(crate) fn measure(stand: &Stand, rounds: usize) -> Result<Vec<Rates>> {
    let hello = task::starts(stand.scratch())?.into_iter().next().context("there is no task")?;
    stand.hot_step(&hello)?;
    let mut runtimes = vec![Runtime::Warmstep];
    if let Some(wasmtime) = &stand.wasmtime {
        wasmtime.precompiled(&hello)?;
        runtimes.push(Runtime::WasmtimePrecompiled);
    }
    runtimes.push(Runtime::Noop);
    let command = |runtime| match (runtime, &stand.wasmtime) {
        (Runtime::Warmstep, _) => stand.hot_step(&hello),
        (Runtime::WasmtimePrecompiled, Some(wasmtime)) => wasmtime.precompiled(&hello),
        _ => Ok(stand.noop()),
    };
    let mut found = Vec::new();
    for callers in CALLERS {
        eprintln!("bench: {callers} at once, {rounds} rounds");
        let mut rates: Vec<(Runtime, Vec<f64>)> =
            runtimes.iter().map(|runtime| (*runtime, Vec::new())).collect();
        for _ in 0..rounds {
            for (runtime, rates) in &mut rates {
                let commands: Result<Vec<Command>> =
                    (0..callers).map(|_| command(*runtime)).collect();
                rates.push(rate(commands?).context(runtime.label())?);
            }
        }
        found.push(Rates { callers, rates });
    }
    Ok(found)
}

/// Runs each command again and again beside the others: how many ended a second.
#[allow(clippy::cast_precision_loss, reason = "a few thousand are exact as f64")]
fn rate(commands: Vec<Command>) -> Result<f64> {
    let done = AtomicU64::new(0);
    let began = Instant::now();
    let call = |mut command: Command| -> Result<()> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        while began.elapsed() < WINDOW && done.load(Ordering::Relaxed) < MOST {
            interrupt::check()?;
            let status = command.status()?;
            ensure!(status.success(), "it ended with {status}");
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let callers: Vec<_> =
            commands.into_iter().map(|command| scope.spawn(|| call(command))).collect();
        let mut ended = callers.into_iter().map(|caller| caller.join());
        ended.try_for_each(|ended| ended.ok().context("a caller panicked")?)
    })?;
    Ok(done.into_inner() as f64 / began.elapsed().as_secs_f64())
}
