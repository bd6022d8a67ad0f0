//! The protocol between a step's pod and the agent of its node.
//!
//! A step is handed over as `POST /v1/steps` with `Upgrade: warmstep/1` over a unix socket. After
//! the agent's `101` both sides speak [`frame`]s, whose bodies are the [`message`]s; only frames
//! carry descriptors. The [`plan`] is what the agent lends beside the runner and the module.
//!
//! Shims outlive agents and agents outlive shims: every field has a number that is never used
//! again, unknown fields are skipped, and new fields are optional.
//!
//! What must not be skipped in silence changes the token of the upgrade instead: a step with
//! [`message::PathGrant`]s is posted as [`PROTOCOL_WITH_PATHS`], which an older agent refuses.
//!
//! A new kind of [`message::Reply`] or [`message::Phase`] is an error to a decoder that does not
//! know it, so an agent sends one only to a shim whose `User-Agent: warmstep/VERSION` is new enough.
//!
//! A module that is a file travels as a descriptor whose offset sender and receiver share: the
//! receiver reads it with `pread(2)`, and nobody relies on where the offset is.

#![forbid(unsafe_code)]

mod bounded;
pub mod check;
pub mod exit;
pub mod frame;
pub mod message;
pub mod plan;

pub use bounded::{MAX_ADDRESSES, MAX_ARGUMENTS, MAX_DIRECTORIES, MAX_PATHS, MAX_VARIABLES};

/// The token of the HTTP `Upgrade` header: name and major version of this protocol.
pub const PROTOCOL: &str = "warmstep/1";

/// The token for a step that grants single paths: an agent that does not know them refuses it, where
/// it would otherwise run the step without them.
pub const PROTOCOL_WITH_PATHS: &str = "warmstep/1.1";

/// The path to which a step is posted.
pub const STEPS_PATH: &str = "/v1/steps";

/// Where the agent listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/warmstep/agent.sock";

/// The environment variable that names another socket.
pub const SOCKET_VARIABLE: &str = "WARMSTEP_SOCKET";
