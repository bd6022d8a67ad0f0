//! `warmstep`: hands a step to the node's agent, and becomes the program that the agent lends back.
//!
//! It is the only thing of Warmstep in a step's image, so it is small, static and starts at once.

#![deny(unsafe_code)]
#![cfg_attr(all(target_env = "gnu", not(test)), no_main)]

mod argo;
mod arguments;
mod entry;
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

use warmstep_wire::{PROTOCOL, exit};

use crate::arguments::Command;
use crate::termination::Failure;

/// The whole program; the result is its exit code.
fn warmstep() -> u8 {
    match arguments::parse(std::env::args_os().skip(1), |name| std::env::var_os(name)) {
        Ok(Command::Run(run)) => match run::run(*run) {
            Ok(never) => match never {},
            Err(failure) => failure.report(),
        },
        Ok(Command::Version) => {
            print(&format!("warmstep {} ({PROTOCOL})\n", env!("CARGO_PKG_VERSION")))
        }
        Ok(Command::Hold) => hold(),
        Ok(Command::Help(text)) => print(text),
        // Not code 2, which could be the module's own.
        Err(error) => Failure { code: exit::INTERNAL, reason: error.to_string() }.report(),
    }
}

/// Ends with SIGTERM or SIGINT, as every other command does.
fn hold() -> ! {
    let _inherited = signals::prepare();
    loop {
        rustix::event::pause();
    }
}

fn print(text: &str) -> u8 {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => 0,
        Err(_) => exit::INTERNAL,
    }
}

/// What other libcs, and the tests' own `main`, start with.
#[cfg(not(all(target_env = "gnu", not(test))))]
fn main() -> std::process::ExitCode {
    entry::enter(warmstep).into()
}
