//! `random_get`, from the kernel.

use rustix::rand::{GetRandomFlags, getrandom};

use super::Wasi;
use super::errno::Result;

/// `random_get`: fills the buffer, however large it is.
pub(crate) fn get(wasi: &mut Wasi, buffer: u32, length: u32) -> Result<()> {
    let mut memory = wasi.memory()?;
    let mut rest = memory.bytes_mut(buffer, length)?;
    // The kernel gives at most 32 MiB at once, and less when a signal comes.
    while !rest.is_empty() {
        match getrandom(&mut *rest, GetRandomFlags::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            given => rest = &mut rest[given?..],
        }
    }
    Ok(())
}
