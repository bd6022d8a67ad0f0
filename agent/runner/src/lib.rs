//! The runner: executes one WebAssembly module as the process that it is, and ends with it.
//!
//! `warmstep run` becomes this program by `execveat`. It gets numbers of descriptors that the agent
//! lent: a connection for the outcome, the launch plan, and the module in native code. It holds no
//! compiler, starts no thread, and gives the module nothing that the plan does not name.

mod instance;
mod preview1;
mod step;

pub use step::run;
