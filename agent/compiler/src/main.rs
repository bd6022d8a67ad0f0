//! `warmstep-compile`: turns one Wasm module on stdin into native code on stdout, and ends.
//!
//! The agent starts one for every compilation, so that a module that makes the compiler loop, swell
//! or crash costs that process and nothing else. Progress and failures go to stderr, as one JSON
//! object a line.

#![forbid(unsafe_code)]

mod compile;
mod limits;
mod report;

use std::io::{Read, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::compile::Tier;
use crate::report::Report;

#[derive(Parser)]
#[command(name = "warmstep-compile", about, version)]
struct Arguments {
    /// How much effort to spend on the code.
    #[arg(long, value_enum, default_value_t = Tier::Optimized)]
    tier: Tier,
    /// The longest module that is read, in bytes.
    #[arg(long, default_value_t = 256 * 1024 * 1024)]
    module_bytes: u64,
    /// The most memory this process may map, in bytes.
    #[arg(long)]
    memory: Option<u64>,
    /// The most processor time this process may take, in seconds.
    #[arg(long)]
    cpu: Option<u64>,
    /// How many threads compile.
    #[arg(long)]
    threads: Option<std::num::NonZero<usize>>,
    /// Print what decides about the code this program makes, as JSON, and exit.
    #[arg(long)]
    identify: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.identify {
        println!("{}", compile::identity());
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Report::Failed { reason: report::one_line(&error.to_string()) }.print();
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), compile::CompileError> {
    limits::apply(arguments.memory, arguments.cpu)?;
    let mut wasm = Vec::new();
    std::io::stdin().lock().take(arguments.module_bytes + 1).read_to_end(&mut wasm)?;
    if wasm.len() as u64 > arguments.module_bytes {
        return Err(compile::CompileError::TooLarge(arguments.module_bytes));
    }
    let artifact = compile::compile(&wasm, arguments.tier, arguments.threads)?;
    std::io::stdout().lock().write_all(&artifact)?;
    Ok(())
}
