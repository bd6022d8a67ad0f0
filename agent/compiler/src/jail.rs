//! Confines the compiler: it reads stdin, computes, and writes into one directory.
//!
//! The module it compiles is hostile, and a compiler is large. One that a module takes over can
//! reach no network, no other file, and no other process; what it writes is the agent's to judge.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use warmstep_jail::{Confinement, Network, Profile};

/// The compiler could not be confined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JailError {
    /// The directory for what is made is not there.
    #[error("cannot open {path}: {error}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The jail could not be entered.
    #[error("cannot confine the compiler: {0}")]
    Enter(#[from] warmstep_jail::JailError),
}

/// Leaves this process nothing but its standard streams and `out`, and says which layers of the jail
/// do not hold, if any.
pub(crate) fn confine(out: &Path) -> Result<Option<String>, JailError> {
    let directory =
        File::open(out).map_err(|error| JailError::Directory { path: out.to_owned(), error })?;
    let confinement = Confinement {
        keep: &[],
        read_only: &[],
        read_write: &[directory.as_fd()],
        network: Network::None,
        profile: Profile::Compiler,
        demand_all: false,
    };
    #[expect(unsafe_code, reason = "descriptors are closed that others might own")]
    // SAFETY: this is the start: there is one thread, no variable was set, and no descriptor is open
    // that is used later.
    let layers = unsafe { warmstep_jail::enter(&confinement)? };
    Ok(layers.missing())
}
