//! What the shim, the agent and the runner say to each other, in CBOR (RFC 8949).

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

/// One directory of the step's pod that the module may see.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DirectoryGrant {
    /// The absolute path in the pod.
    #[n(0)]
    pub host: ByteVec,
    /// The name under which the module sees it.
    #[n(1)]
    pub guest: ByteVec,
    /// Whether every change is refused.
    #[n(2)]
    pub read_only: bool,
}

/// One file or directory of the step's pod that the module may see, and nothing beside it.
///
/// It need not exist: one that may be written may also be created, as whatever the module likes, and
/// removed. The module sees its directory as a preopen with no other names in it. A symbolic link in
/// its place is not followed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PathGrant {
    /// The absolute path in the pod. Its directory must exist.
    #[n(0)]
    pub host: ByteVec,
    /// The absolute path under which the module sees it, without `.`, `..` and needless slashes.
    #[n(1)]
    pub guest: ByteVec,
    /// Whether every change is refused.
    #[n(2)]
    pub read_only: bool,
}

/// One environment variable that the module may see.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Variable {
    /// Its name, without `=` or NUL.
    #[n(0)]
    pub name: ByteVec,
    /// Its value, without NUL.
    #[n(1)]
    pub value: ByteVec,
}

/// What a step wants to run, and what it asks to be allowed: the shim's first frame.
///
/// A module that is a file in the pod travels as the frame's one descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Step {
    /// The module as the author wrote it: a reference, a digest, or the path of the descriptor.
    #[n(0)]
    pub module: String,
    /// The module's arguments after its own name.
    #[n(1)]
    #[cbor(decode_with = "crate::bounded::arguments")]
    pub arguments: Vec<ByteVec>,
    /// The environment asked for.
    #[n(2)]
    #[cbor(decode_with = "crate::bounded::environment")]
    pub environment: Vec<Variable>,
    /// The directories asked for.
    #[n(3)]
    #[cbor(decode_with = "crate::bounded::directories")]
    pub directories: Vec<DirectoryGrant>,
    /// The addresses asked for, each `HOST:PORT`.
    #[n(4)]
    #[cbor(decode_with = "crate::bounded::network")]
    pub network: Vec<String>,
    /// The most memory the module may have, in bytes; the agent's default without it.
    #[n(5)]
    pub memory: Option<u64>,
    /// The most time the module may run, in milliseconds; the agent's default without it.
    #[n(6)]
    pub timeout: Option<u64>,
    /// The single files and directories asked for. A step that has some is posted as
    /// [`crate::PROTOCOL_WITH_PATHS`].
    #[n(7)]
    #[cbor(with = "crate::bounded::paths", has_nil)]
    pub paths: Vec<PathGrant>,
    /// What to take for `memory` where that is not said, in bytes, instead of the agent's own
    /// default; the agent gives no more than it allows.
    #[n(8)]
    pub usual_memory: Option<u64>,
}

/// What a step is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Phase {
    /// For the registry to name the digest.
    #[n(0)]
    Resolve,
    /// For the module's bytes; progress counts bytes.
    #[n(1)]
    Pull,
    /// For the compiler; progress counts its own steps.
    #[n(2)]
    Compile,
}

/// What the agent says to the shim.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// The step waits; sent on each change, and only when there is something to wait for.
    #[n(0)]
    Progress {
        /// What it waits for.
        #[n(0)]
        phase: Phase,
        /// How much is done, in the phase's own unit.
        #[n(1)]
        done: u64,
        /// How much there is to do; 0 while unknown.
        #[n(2)]
        total: u64,
    },
    /// The step will not run.
    #[n(1)]
    Refused {
        /// The exit code the shim ends with.
        #[n(0)]
        code: u8,
        /// One line for the person who reads the step's log.
        #[n(1)]
        reason: String,
    },
    /// The agent is at its limit; ask again later.
    #[n(2)]
    Busy {
        /// In how many milliseconds.
        #[n(0)]
        retry_after: u64,
    },
    /// The step may run. The frame's first descriptor is the runner; it is executed with the
    /// numbers of the connection and of the other descriptors, in order, as its arguments.
    #[n(3)]
    Lend,
}

/// How a step ended: the runner's only frame, written just before it exits.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Outcome {
    /// The exit code.
    #[n(0)]
    pub code: u8,
    /// Why, when it was not the module's own choice: a trap, a limit, a module that cannot run.
    #[n(1)]
    pub reason: Option<String>,
    /// From the runner's start until the module could run, in microseconds.
    #[n(2)]
    pub load: u64,
    /// From the module's first instruction to its end, in microseconds.
    #[n(3)]
    pub run: u64,
    /// Processor time of the whole process, in microseconds.
    #[n(4)]
    pub cpu: u64,
    /// The largest resident set, in bytes.
    #[n(5)]
    pub peak_memory: u64,
    /// Bytes the module read from descriptors.
    #[n(6)]
    pub bytes_read: u64,
    /// Bytes the module wrote to descriptors.
    #[n(7)]
    pub bytes_written: u64,
    /// Which layers of the jail the kernel or the container's profile refused, in one line.
    #[n(8)]
    pub missing_layers: Option<String>,
}
