//! From the lent descriptors to a module that can be instantiated.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use warmstep_image::load::{Backed, LoadError};
use warmstep_image::{Image, ImageError};
use wasmer::{Engine, Module};

use crate::limits::Limits;
use crate::trap;

/// Allocations up to this size come from the heap, in bytes: more than any table of wasmer's.
#[cfg(target_env = "gnu")]
const LARGEST_TABLE: libc::c_int = 64 * 1024 * 1024;

/// By how much the heap grows at once, in bytes; pages that are not used cost nothing.
#[cfg(target_env = "gnu")]
const HEAP_STEP: libc::c_int = 1024 * 1024;

/// Loads a compiled module, from a descriptor that nobody can write to, of a file that the agent
/// made: its bytes become code.
pub fn load(engine: &Engine, artifact: OwnedFd) -> Result<Module, LoadError> {
    keep_memory();
    // SAFETY: the agent lends only what it compiled itself and has authenticated, and lends it such
    // that it does not change. A file that is truncated all the same ends this process with SIGBUS,
    // and no other.
    unsafe { warmstep_image::load::load(engine, artifact.as_fd()) }
}

/// Lets the allocator keep what it once has from the kernel.
///
/// wasmer makes and drops tables with an entry for each function. glibc would map and unmap each of
/// them, and the kernel clear every page anew: a sixth of what loading Python takes.
fn keep_memory() {
    #[cfg(target_env = "gnu")]
    for (setting, bytes) in [
        (libc::M_MMAP_THRESHOLD, LARGEST_TABLE),
        (libc::M_TRIM_THRESHOLD, LARGEST_TABLE),
        (libc::M_TOP_PAD, HEAP_STEP),
    ] {
        // SAFETY: it sets a number; one that glibc does not like is left as it was.
        unsafe { libc::mallopt(setting, bytes) };
    }
}

/// The limits of the one instance of the module, whose first memory has what is in the image.
pub fn with_image(limits: Limits, image: Option<OwnedFd>) -> Result<Backed<Limits>, ImageError> {
    let image = image.map(Image::open).transpose()?.map(Arc::new);
    if let Some(image) = &image {
        trap::names_are_in(Arc::clone(image));
    }
    // SAFETY: a runner instantiates one module, the one that the agent lent with this image; neither
    // changes, as with the code.
    Ok(unsafe { Backed::new(limits, image) })
}
