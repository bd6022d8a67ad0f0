//! `make bench`: what Warmstep takes, side by side with what a user would otherwise run.
//!
//! It writes `tests/bench/results.md` and `tests/bench/results.svg`, and prints the former. What is
//! not there (tests/tools/rivals builds wasmtime and wasmer; containers want root) is left out.
//!
//! `BENCH_ROUNDS` is how often large modules are started hot, 40 unless told otherwise; everything
//! else follows from it. `BENCH_MODULES` is how many modules the agent's index is filled with, 1000
//! unless told otherwise: each is brought by a real step. `BENCH_ONLY` names the parts to measure,
//! and then nothing is written.

mod bars;
mod callers;
mod containers;
mod memory;
mod node;
mod plot;
mod report;
mod rival;
mod rounds;
mod stand;
mod starts;
mod task;
mod wasmer;
mod wasmtime;

use std::env;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use warmstep_tests::interrupt::{self, Interrupted};
use warmstep_tests::paths;

use crate::report::Results;
use crate::stand::Stand;

/// What a shell says of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("bench: interrupted; nothing is left behind");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    interrupt::watch()?;
    let rounds = number("BENCH_ROUNDS", 40)?.max(1);
    let count = number("BENCH_MODULES", 1_000)?;
    let only = env::var("BENCH_ONLY").ok();
    let wanted = |part: &str| only.as_ref().is_none_or(|only| only.split(',').any(|o| o == part));
    // Fewer of what takes long; an odd number, so that the median is one of them.
    let few = (rounds / 8) | 1;

    let stand = Stand::start()?;
    let mut results = Results::new(&stand, rounds)?;
    if wanted("hot") {
        results.hot = starts::hot(&stand, rounds)?;
    }
    if wanted("cold") {
        results.cold = starts::cold(&stand, few)?;
    }
    if wanted("work") {
        results.work = starts::work(&stand, few)?;
    }
    if wanted("callers") {
        results.callers = callers::measure(&stand, few)?;
    }
    if wanted("memory") {
        results.memory = memory::measure(&stand)?;
    }
    if wanted("node") && count > 0 {
        results.node = Some(node::measure(stand.scratch(), count)?);
    }
    drop(stand);

    let page = report::page(&results);
    if only.is_none() {
        let directory = paths::root().join("tests/bench");
        fs::write(directory.join("results.md"), &page)?;
        fs::write(directory.join("results.svg"), plot::draw(&results))?;
    }
    println!("{page}");
    Ok(())
}

fn number(name: &str, otherwise: usize) -> Result<usize> {
    match env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}: not a number")),
        Err(_) => Ok(otherwise),
    }
}
