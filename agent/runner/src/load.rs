//! From the lent descriptors to a module that can be instantiated.

use std::fs::File;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use memmap2::Mmap;
use wasmer::{Engine, Module};

/// The compiled module could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// It could not be mapped.
    #[error("cannot map the compiled module: {0}")]
    Map(#[from] std::io::Error),
    /// It is not what wasmer makes of a module.
    #[error("cannot load the compiled module: {0}")]
    Deserialize(#[from] wasmer::DeserializeError),
}

/// Maps a compiled module and makes it ready to be instantiated.
///
/// `artifact` must be a descriptor that nobody can write to, of a file that the agent made: its
/// bytes become code. `_image`, what was taken out of the Wasm, is not made yet.
pub(crate) fn load(
    engine: &Engine,
    artifact: OwnedFd,
    _image: Option<OwnedFd>,
) -> Result<Module, LoadError> {
    // SAFETY: the agent lends descriptors whose files do not change. One that is truncated all the
    // same ends this process with SIGBUS, and no other.
    let mapped = unsafe { Mmap::map(&File::from(artifact))? };
    // The bytes are taken over as they are; wasmer would copy a slice.
    let bytes = Bytes::from_owner(mapped);
    // SAFETY: the agent lends only what it compiled itself and has authenticated.
    Ok(unsafe { Module::deserialize(engine, bytes)? })
}
