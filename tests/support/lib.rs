//! What the tests, the demo and the benchmarks share: a registry, an agent and steps, each a real
//! program in a place of its own, ended by its process id.
//!
//! ```no_run
//! use warmstep_tests::{Agent, Form, Registry, modules};
//!
//! # fn main() -> anyhow::Result<()> {
//! let registry = Registry::start()?;
//! let hello = registry.push("hello", "latest", Form::Cncf, modules::read("hello")?)?;
//! let agent = Agent::builder().registry(&registry).start()?;
//! let step = agent.step(&hello.reference).arguments(["world"]).run()?;
//! assert_eq!((step.code, step.stdout.as_slice()), (0, b"hello, world\n".as_slice()));
//! # Ok(())
//! # }
//! ```

pub mod agent;
pub mod apiserver;
pub mod cluster;
pub mod examples;
pub mod figures;
pub mod install;
pub mod interrupt;
pub mod machine;
pub mod modules;
pub mod paths;
pub mod program;
pub mod push;
pub mod registry;
mod spawner;
pub mod status;
pub mod step;

pub use agent::Agent;
pub use apiserver::ApiServer;
pub use push::{Form, Pushed};
pub use registry::Registry;
pub use step::{Ended, Running, Step};
