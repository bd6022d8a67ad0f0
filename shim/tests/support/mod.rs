//! What the tests of the whole shim share: an agent that does as it is told, and the shim itself.

// Each test is a crate of its own and uses its own part of this.
#![allow(dead_code, reason = "shared between test crates")]

pub(crate) mod agent;
pub(crate) mod shim;
