//! `warmstep-cluster`: a real one-node cluster in namespaces of its own.
//!
//! `run` keeps one for as long as it runs itself; `up` leaves one running with all of Warmstep
//! installed, and prints how to use it; `down` ends it. The keeper stays outside; inside, `init` is process 1, whose end
//! is the end of everything, and `node` starts the programs.

mod cgroups;
mod control;
mod files;
mod images;
mod init;
mod keeper;
mod kubelet;
mod mounts;
mod network;
mod node;
mod plane;
mod runtime;
mod stores;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use warmstep_tests::interrupt;

/// A real one-node Kubernetes with Argo Workflows, for tests.
#[derive(Debug, Parser)]
#[command(name = "warmstep-cluster")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster and keep it until SIGTERM.
    Run,
    /// Start a cluster, install everything, leave it running, and print how to use it.
    Up,
    /// End the cluster that runs, and remove what it left.
    Down,
    /// Process 1 of the cluster's namespaces.
    #[command(hide = true)]
    Init,
    /// What starts the cluster's programs.
    #[command(hide = true)]
    Node,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run => watched(keeper::run),
        Command::Up => watched(keeper::up),
        Command::Down => keeper::down(),
        Command::Init => init::run(),
        Command::Node => node::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<interrupt::Interrupted>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// With Ctrl-C and SIGTERM turned into an error, so that everything is cleaned up.
fn watched(work: fn() -> Result<()>) -> Result<()> {
    interrupt::watch()?;
    work()
}
