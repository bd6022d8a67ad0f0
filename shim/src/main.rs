//! `warmstep`: hands a step to the node's agent, and becomes the program that the agent lends back.
//!
//! It is the only thing of Warmstep in a step's image, so it is small, static and starts at once.

#![deny(unsafe_code)]

mod arguments;
mod flags;
mod grants;
mod handover;
mod launch;
mod module;
mod progress;
mod quantity;
mod run;
mod signals;
mod socket;
mod termination;
mod upgrade;
mod wait;

use std::io::Write;
use std::process::ExitCode;

use warmstep_wire::{PROTOCOL, exit};

use crate::arguments::Command;
use crate::termination::Failure;

fn main() -> ExitCode {
    match arguments::parse(std::env::args_os().skip(1), |name| std::env::var_os(name)) {
        Ok(Command::Run(run)) => match run::run(*run) {
            Ok(never) => match never {},
            Err(failure) => failure.report(),
        },
        Ok(Command::Version) => {
            print(&format!("warmstep {} ({PROTOCOL})\n", env!("CARGO_PKG_VERSION")))
        }
        Ok(Command::Help(text)) => print(text),
        // Not code 2, which could be the module's own.
        Err(error) => Failure { code: exit::INTERNAL, reason: error.to_string() }.report(),
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(exit::INTERNAL),
    }
}
