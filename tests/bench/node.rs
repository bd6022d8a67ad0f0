//! What the agent itself takes: idle, and with many modules in its index.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use warmstep_tests::figures::Quartiles;
use warmstep_tests::push::sha256;
use warmstep_tests::{Agent, interrupt, modules};

use crate::rounds::{self, Subject};
use crate::stand::Runtime;

/// How long the agent is left alone before it counts as idle.
const IDLE: Duration = Duration::from_secs(2);

/// How many steps bring modules at once.
const CALLERS: usize = 4;

/// How often a step is timed.
const ROUNDS: usize = 200;

/// What the agent takes.
pub(crate) struct Node {
    /// The resident set of an agent that has just started, in bytes.
    pub(crate) fresh: u64,
    /// How many modules were brought.
    pub(crate) modules: usize,
    /// The resident set after they were brought, each by a step, in bytes.
    pub(crate) filled: u64,
    /// The same after a restart.
    pub(crate) restarted: u64,
    /// A hot step with all of them in the index, in milliseconds, from start to exit.
    pub(crate) step: Quartiles,
    /// The same with the module alone.
    pub(crate) alone: Quartiles,
}

/// Fills an agent of its own with modules that differ by a number, each brought and compiled by a
/// real step.
pub(crate) fn measure(scratch: &Path, count: usize) -> Result<Node> {
    // Compiled once: the second time would change no figure here.
    let mut agent = Agent::builder().argument("--tiers").argument("optimized-only").start()?;
    thread::sleep(IDLE);
    let fresh = agent.program()?.resident()?;
    let directory = scratch.join("many");
    fs::create_dir_all(&directory)?;
    let first = write(&directory, 0)?;
    run(&agent, &first)?;
    let digest = sha256(&fs::read(&first)?);
    let alone = time(&agent, &digest)?;
    eprintln!("bench: an agent with {count} modules");
    bring(&agent, &directory, count)?;
    let status = agent.status()?;
    let there: u64 = status.modules.values().sum();
    ensure!(usize::try_from(there)? == count, "the agent has {there} of {count} modules");
    thread::sleep(IDLE);
    let filled = agent.program()?.resident()?;
    let step = time(&agent, &digest)?;
    agent.stop()?;
    agent.start()?;
    thread::sleep(IDLE);
    let restarted = agent.program()?.resident()?;
    Ok(Node { fresh, modules: count, filled, restarted, step, alone })
}

fn bring(agent: &Agent, directory: &Path, count: usize) -> Result<()> {
    let next = AtomicUsize::new(1);
    let call = || -> Result<()> {
        loop {
            interrupt::check()?;
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let module = write(directory, number)?;
            run(agent, &module)?;
            fs::remove_file(module)?;
        }
    };
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(call)).collect();
        let mut ended = callers.into_iter().map(|caller| caller.join());
        ended.try_for_each(|ended| ended.ok().context("a caller panicked")?)
    })
}

/// A module that prints its number.
fn write(directory: &Path, number: usize) -> Result<PathBuf> {
    let text = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\08\00\00\00\06\00\00\00{number:05}\n")
          (func (export "_start")
            (drop (call 0 (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 24)))))"#
    );
    let path = directory.join(format!("{number}.wasm"));
    fs::write(&path, modules::from_text(&text)?)?;
    Ok(path)
}

fn run(agent: &Agent, module: &Path) -> Result<()> {
    let output = agent.step(module).command()?.stdin(Stdio::null()).output()?;
    let reason = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", module.display(), reason.trim_end());
    Ok(())
}

fn time(agent: &Agent, digest: &str) -> Result<Quartiles> {
    let command: Command = agent.step(digest).command()?;
    let mut subjects = [Subject::new(Runtime::Warmstep, command)];
    let timed = rounds::measure(&mut subjects, ROUNDS, rounds::to_the_end, |_| Ok(()))?;
    Ok(timed.first().context("nothing was timed")?.time())
}
