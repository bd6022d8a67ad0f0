//! The runner: executes one WebAssembly module as the process that it is, and ends with it.
//!
//! `warmstep run` becomes this program by `execveat`. It gets numbers of descriptors that the agent
//! lent: a connection for the outcome, the launch plan, and the module in native code. It holds no
//! compiler, starts no thread, and gives the module nothing that the plan does not name.

pub mod beneath;
mod ending;
mod grants;
mod instance;
mod jail;
mod limits;
mod load;
mod plan;
mod preview1;
mod signals;
mod step;
mod trap;
mod view;

pub use step::run;
