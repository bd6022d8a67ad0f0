//! The resource limits of this process, set before it reads a byte of the module.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Limits the address space to `memory` bytes and the processor time to `cpu` seconds, and turns
/// core dumps off: a dump of a hostile module's compilation helps nobody.
pub(crate) fn apply(memory: Option<u64>, cpu: Option<u64>) -> io::Result<()> {
    limit(Resource::Core, 0)?;
    if let Some(bytes) = memory {
        limit(Resource::As, bytes)?;
    }
    if let Some(seconds) = cpu {
        limit(Resource::Cpu, seconds)?;
    }
    Ok(())
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    Ok(())
}
