//! From the lent descriptors to a module that can be instantiated.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use warmstep_image::load::{Backed, LoadError};
use warmstep_image::{Image, ImageError};
use wasmer::{Engine, Module};

use crate::limits::Limits;
use crate::trap;

/// Loads a compiled module, from a descriptor that nobody can write to, of a file that the agent
/// made: its bytes become code.
pub(crate) fn load(engine: &Engine, artifact: OwnedFd) -> Result<Module, LoadError> {
    // SAFETY: the agent lends only what it compiled itself and has authenticated, and lends it such
    // that it does not change. A file that is truncated all the same ends this process with SIGBUS,
    // and no other.
    unsafe { warmstep_image::load::load(engine, artifact.as_fd()) }
}

/// The limits of the one instance of the module, whose first memory has what is in the image.
pub(crate) fn with_image(
    limits: Limits,
    image: Option<OwnedFd>,
) -> Result<Backed<Limits>, ImageError> {
    let image = image.map(Image::open).transpose()?.map(Arc::new);
    if let Some(image) = &image {
        trap::names_are_in(Arc::clone(image));
    }
    // SAFETY: a runner instantiates one module, the one that the agent lent with this image; neither
    // changes, as with the code.
    Ok(unsafe { Backed::new(limits, image) })
}
