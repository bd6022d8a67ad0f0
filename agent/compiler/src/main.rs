//! `warmstep-compile`: turns one Wasm module on stdin into native code in a directory, and ends.
//!
//! The agent starts one for every compilation, so that a module that makes the compiler loop, swell
//! or crash costs that process and nothing else. What happens goes to stderr, as one JSON object a
//! line; see `report.rs`.

#![deny(unsafe_code)]

mod compile;
mod input;
mod inspect;
mod jail;
mod limits;
#[allow(unsafe_code, reason = "an allocator cannot be without")]
mod memory;
mod report;
mod symbols;

use std::fs::File;
use std::io::Write;
use std::num::NonZero;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::ScopedJoinHandle;

use clap::Parser;
use warmstep_image::split::{Split, SplitError, split};

use crate::compile::{CompileError, Tier};
use crate::report::{Report, one_line};

/// The file with the native code.
const MODULE: &str = "module";

/// The file with what was taken out of the Wasm, if there is anything.
const IMAGE: &str = "image";

#[derive(Parser)]
#[command(name = "warmstep-compile", about, version)]
struct Arguments {
    /// How much effort to spend on the code.
    #[arg(long, value_enum, default_value_t = Tier::Optimized)]
    tier: Tier,
    /// The empty directory for what is made of the module.
    #[arg(long, value_name = "DIR", required_unless_present = "identify")]
    out: Option<PathBuf>,
    /// The longest module that is read, in bytes.
    #[arg(long, default_value_t = 256 * 1024 * 1024)]
    module_bytes: u64,
    /// The most memory this process may have for itself, in bytes.
    #[arg(long)]
    memory: Option<u64>,
    /// The most processor time this process may take, in seconds.
    #[arg(long)]
    cpu: Option<u64>,
    /// How many threads compile.
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// Print what decides about the code this program makes, as JSON, and exit.
    #[arg(long)]
    identify: bool,
}

/// Why there is no native code.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot limit the compiler: {0}")]
    Limit(std::io::Error),
    #[error(transparent)]
    Jail(#[from] jail::JailError),
    #[error(transparent)]
    Input(#[from] input::InputError),
    #[error(transparent)]
    Inspect(#[from] inspect::InspectError),
    #[error(transparent)]
    Split(#[from] SplitError),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("cannot write the compiled module to {path}: {error}")]
    Write { path: PathBuf, error: std::io::Error },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(out) = arguments.out.as_deref().filter(|_| !arguments.identify) else {
        println!("{}", compile::identity());
        return ExitCode::SUCCESS;
    };
    memory::keep();
    // A panic's own lines are no report.
    std::panic::set_hook(Box::new(|_| {}));
    match run(&arguments, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let reason = one_line(&error.to_string());
            match error {
                Failure::Limit(_) | Failure::Jail(_) | Failure::Write { .. } => {
                    Report::Broken { reason }
                }
                _ => Report::Failed { reason },
            }
            .print();
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, out: &Path) -> Result<(), Failure> {
    // Nobody waits for what an agent that is gone had asked for.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| Failure::Limit(error.into()))?;
    // Before the jail, which hides what tells: the control group's share of the processors.
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok());
    let threads = threads.unwrap_or(NonZero::<usize>::MIN);
    limits::set(arguments.memory, arguments.cpu).map_err(Failure::Limit)?;
    if let Some(missing) = jail::confine(out)? {
        Report::Jail { missing }.print();
    }
    if let Some(seconds) = arguments.cpu {
        limits::watch(seconds).map_err(Failure::Limit)?;
    }
    let wasm = input::read(std::io::stdin().lock(), arguments.module_bytes)?;
    let summary = inspect::inspect(&wasm, &compile::features())?;
    Report::module(&summary).print();
    summary.check()?;
    // What is taken out of a module lies outside its functions' bodies, which alone are not valid yet.
    let Split { wasm, image } = std::thread::scope(|scope| {
        let split = scope.spawn(|| split(&wasm));
        inspect::validate(&wasm, &compile::features(), threads)?;
        Ok::<_, Failure>(joined(split)?)
    })?;
    std::thread::scope(|scope| {
        let image = scope.spawn(|| match image {
            Some(image) => write(out, IMAGE, |file| image.write(file.as_fd())),
            None => Ok(()),
        });
        let code = compile::compile(&wasm, arguments.tier, threads)?;
        write(out, MODULE, |mut file| file.write_all(&code))?;
        joined(image)
    })
}

/// What a thread returned; a panic goes on in this one.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Writes one of the files that are made. Whether they reach the disk is the agent's affair.
fn write(
    out: &Path,
    name: &str,
    contents: impl FnOnce(File) -> std::io::Result<()>,
) -> Result<(), Failure> {
    let path = out.join(name);
    let written = File::create_new(&path).and_then(contents);
    written.map_err(|error| Failure::Write { path, error })
}
