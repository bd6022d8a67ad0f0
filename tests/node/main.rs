//! A node without a cluster: real registry, real agent, real shim, real modules.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod argo;
mod crowd;
mod disk;
mod guests;
mod hostile;
mod lending;
mod life;
mod live;
mod process;
mod raw;
mod refusals;
mod soak;
mod sources;
mod together;
mod wasix;
mod wasix_guests;
