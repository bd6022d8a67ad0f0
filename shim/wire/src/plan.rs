//! The launch plan: what the agent admitted, lent as a sealed memfd and read by the runner.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::message::{DirectoryGrant, PathGrant, Variable};

/// The largest plan the runner reads, in bytes: a frame's body and what the agent adds to it.
pub const MAX_PLAN: usize = crate::frame::MAX_BODY + 64 * 1024;

/// Everything the runner may give to the module, and nothing more.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Plan {
    /// The module as the author wrote it, for messages.
    #[n(0)]
    pub module: String,
    /// SHA-256 of the Wasm, in hexadecimal, for messages.
    #[n(1)]
    pub digest: String,
    /// The module's arguments, its own name first.
    #[n(2)]
    #[cbor(decode_with = "crate::bounded::arguments")]
    pub arguments: Vec<ByteVec>,
    /// The admitted environment.
    #[n(3)]
    #[cbor(decode_with = "crate::bounded::environment")]
    pub environment: Vec<Variable>,
    /// The admitted directories.
    #[n(4)]
    #[cbor(decode_with = "crate::bounded::directories")]
    pub directories: Vec<DirectoryGrant>,
    /// The admitted addresses, each `HOST:PORT`.
    #[n(5)]
    #[cbor(decode_with = "crate::bounded::network")]
    pub network: Vec<String>,
    /// The most memory of all the module's linear memories and tables together, in bytes.
    #[n(6)]
    pub memory: u64,
    /// The most time the module may run, in milliseconds; 0 for no limit.
    #[n(7)]
    pub timeout: u64,
    /// Whether the step runs only in a jail that has all its layers; not without it.
    #[n(8)]
    pub whole_jail: Option<bool>,
    /// The admitted single files and directories.
    #[n(9)]
    #[cbor(with = "crate::bounded::paths", has_nil)]
    pub paths: Vec<PathGrant>,
}

impl Plan {
    /// The plan's bytes.
    pub fn encode(&self) -> Vec<u8> {
        crate::frame::encode(self)
    }

    /// Reads a plan back.
    ///
    /// # Errors
    ///
    /// When the bytes are not a plan.
    pub fn decode(bytes: &[u8]) -> Result<Self, minicbor::decode::Error> {
        minicbor::decode(bytes)
    }
}
