//! The jail, tried on processes of their own: `jail-probe`, which is confined and then does one
//! thing.
//!
//! As root the tests see more (a container without a user namespace is the harder case), but they
//! pass for everybody. They need Linux 6.12 with Landlock and seccomp, as CI has; what is left on a
//! lesser kernel is tested by refusing layers to the probe.

mod attacks;
mod audit;
mod cost;
mod grants;
mod layers;
mod network;
mod probe;
mod rules;
mod signals;
