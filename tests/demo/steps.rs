//! The examples as steps: once cold, then hot.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use warmstep_tests::examples::{ALL, Example, wasm};
use warmstep_tests::status::{Record, Status};
use warmstep_tests::{Agent, Form, Registry, Step};

/// How often each step runs hot; odd, so that the median is one of them.
pub(crate) const HOT_RUNS: usize = 11;

/// What is shown, by the names of the examples.
const SHOWN: [&str; 5] = ["hello.wat", "hello", "markdown", "sqlite", "python"];

/// How long the optimized form of a module may take: Python's on a busy machine.
const OPTIMIZE: Duration = Duration::from_secs(180);

/// An example whose module is in the registry.
pub(crate) struct Ready {
    pub(crate) example: Example,
    pub(crate) reference: String,
    /// The size of the Wasm, in bytes.
    pub(crate) size: usize,
}

/// What one step took.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    /// The size of the Wasm, in bytes.
    pub(crate) size: usize,
    pub(crate) cold: Parts,
    pub(crate) hot: Parts,
    /// The tier that ran hot.
    pub(crate) hot_tier: String,
}

/// The parts of one run.
#[derive(Clone, Copy)]
pub(crate) struct Parts {
    /// Asking the registry what the reference means, and getting the Wasm.
    pub(crate) pull: Duration,
    pub(crate) compile: Duration,
    /// From the runner's start until the module could run.
    pub(crate) load: Duration,
    /// From the module's first instruction to its end.
    pub(crate) run: Duration,
    /// From just before the shim was started until it had ended.
    pub(crate) total: Duration,
}

impl Parts {
    fn new(record: &Record, total: Duration) -> Self {
        Self {
            pull: Duration::from_micros(record.resolve_us + record.pull_us),
            compile: Duration::from_micros(record.compile_us),
            load: Duration::from_micros(record.load_us),
            run: Duration::from_micros(record.run_us),
            total,
        }
    }

    /// Each part's own median: the parts of the run with the median total would be one run's.
    fn median(runs: &[Self]) -> Self {
        let of = |part: fn(&Self) -> Duration| median(runs.iter().map(part).collect());
        Self {
            pull: of(|run| run.pull),
            compile: of(|run| run.compile),
            load: of(|run| run.load),
            run: of(|run| run.run),
            total: of(|run| run.total),
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Puts the modules into the registry.
pub(crate) fn push(registry: &Registry) -> Result<Vec<Ready>> {
    let shown = SHOWN.iter().filter_map(|name| ALL.iter().find(|example| example.name == *name));
    shown
        .map(|example| {
            let wasm = wasm(example.module)?;
            let size = wasm.len();
            let repository = format!("examples/{}", example.name);
            let pushed = registry.push(&repository, "latest", Form::Cncf, wasm)?;
            Ok(Ready { example: *example, reference: pushed.reference, size })
        })
        .collect()
}

/// Runs them all.
pub(crate) fn measure(agent: &Agent, ready: &[Ready]) -> Result<Vec<Figure>> {
    let mut ended = 0;
    ready.iter().map(|ready| measure_one(agent, ready, &mut ended)).collect()
}

fn measure_one(agent: &Agent, ready: &Ready, ended: &mut usize) -> Result<Figure> {
    let name = ready.example.name;
    eprintln!("demo: {name}, cold and then hot");
    let cold = run(agent, ready, ended, 1)?;
    // So that its compilation disturbs neither the hot runs nor the next cold one.
    let optimized =
        |status: &Status| status.modules.iter().all(|(tier, n)| tier == "optimized" || *n == 0);
    agent.until(OPTIMIZE, optimized).with_context(|| format!("{name} is not optimized"))?;

    let hot = run(agent, ready, ended, HOT_RUNS)?;
    ensure!(cold.iter().all(|(record, _)| record.cache == "miss"), "the first {name} was no miss");
    ensure!(hot.iter().all(|(record, _)| record.cache == "hit"), "a hot {name} was no hit");
    let parts: Vec<Parts> = hot.iter().map(|(_, parts)| *parts).collect();
    Ok(Figure {
        name,
        size: ready.size,
        cold: cold.first().map(|(_, parts)| *parts).context("there was no cold run")?,
        hot: Parts::median(&parts),
        hot_tier: hot.into_iter().map(|(record, _)| record.tier).next().unwrap_or_default(),
    })
}

/// Runs a step so many times, one right after the other, and then asks what each took.
fn run(
    agent: &Agent,
    ready: &Ready,
    ended: &mut usize,
    times: usize,
) -> Result<Vec<(Record, Parts)>> {
    let mut walls = Vec::with_capacity(times);
    for _ in 0..times {
        walls.push(ready.example.run_by(Step::run_bare, agent, &ready.reference)?.wall);
    }
    *ended += times;
    let records = agent.records(*ended)?;
    let records = records.into_iter().rev().take(times).rev();
    Ok(records
        .zip(walls)
        .map(|(record, wall)| (record.clone(), Parts::new(&record, wall)))
        .collect())
}
