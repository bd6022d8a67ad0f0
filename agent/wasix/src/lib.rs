//! The runner of WASIX modules: threads, pipes, sockets to granted addresses; by wasmer-wasix.
//!
//! It is a program of its own beside `warmstep-run`, so that a preview 1 step carries no async
//! runtime, and wasmer-wasix is built only where it is used. What it must not get from wasmer-wasix,
//! which is no sandbox, it brings itself: the file system ([`filesystem`]), the network ([`network`])
//! and the standard streams ([`stdio`]).

mod file;
mod filesystem;
mod network;
mod place;
mod reach;
mod runtime;
mod stdio;
mod step;

pub use step::run;
