//! `make demo`: real steps through the real programs, and what each took.
//!
//! A registry, an agent and its cache live in temporary places while it runs, and are gone with it,
//! also after Ctrl-C.

mod floor;
mod steps;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use warmstep_tests::interrupt::{self, Interrupted};
use warmstep_tests::{Agent, Registry, machine};

/// How long the agent is left alone before it counts as idle.
const IDLE: Duration = Duration::from_secs(2);

/// What a shell says of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("demo: interrupted; nothing is left behind");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    interrupt::watch()?;
    let registry = Registry::start()?;
    let mut agent = Agent::builder().registry(&registry).start()?;
    eprintln!("demo: a registry on {}, an agent in {}", registry.host(), agent.scratch().display());

    let pushed = steps::push(&registry)?;
    let figures = steps::measure(&agent, &pushed)?;
    eprintln!("demo: hot hello beside a static no-op program, {} times each", floor::ROUNDS);
    let floor = floor::measure(&agent, &pushed)?;
    std::thread::sleep(IDLE);
    let resident = agent.program()?.resident()?;

    println!("\n{}\n", table::steps(&figures));
    println!(
        "Cold: nothing in the cache, the registry on loopback. Hot: the median of {} runs, compiled \
         with the {} tier.\nTotals are from just before the shim is started until it has ended.\n",
        steps::HOT_RUNS,
        figures.iter().map(|figure| figure.hot_tier.as_str()).next().unwrap_or("-"),
    );
    println!("{}\n", table::floor(&floor, resident)?);
    println!(
        "Times: the median of {} rounds, in each of which every program ran once; in brackets the \
         quartiles.\nMeasured on {}.",
        floor::ROUNDS,
        machine::describe()?
    );
    Ok(())
}
