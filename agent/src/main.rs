//! `warmstep-agent`: the node's agent, and the commands that talk to it. Exit codes are chosen here.

#![deny(unsafe_code)]

mod admin;
mod admission;
mod arguments;
mod cache;
mod changes;
mod client;
mod compile;
mod config;
mod copy;
mod failures;
mod fair;
mod fetch;
mod flight;
mod host;
mod layers;
mod lend;
mod listener;
mod live;
mod peer;
mod pipeline;
mod prewarm;
mod recent;
mod reload;
mod room;
mod serve;
mod session;
mod settings;
mod steps;
mod telemetry;
mod uses;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("warmstep-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    // One thread: a hot step takes it some microseconds, and two would wake each other at every turn.
    // What takes longer is in processes of its own, or where waiting is allowed.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Serve(arguments) => serve::serve(*arguments).await,
            Command::Ls(arguments) => client::ls(&arguments).await,
            Command::Status(arguments) => client::status(&arguments).await,
            Command::Prewarm(arguments) => client::prewarm(&arguments).await,
            Command::Rm(arguments) => client::rm(&arguments).await,
            Command::Gc(arguments) => client::gc(&arguments).await,
        }
    });
    // A thread that waits for a pod's own file system must not keep the agent from ending.
    runtime.shutdown_background();
    result
}
