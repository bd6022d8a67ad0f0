//! The module's linear memory, as the host functions see it: bounds-checked, little-endian.

use super::errno::{Errno, Result};

/// The most buffers that one call reads or writes: Linux's own limit (`IOV_MAX`). What a module
/// asks for beyond it is not done, which it sees as a short read or write.
const MOST_BUFFERS: usize = 1024;

/// A linear memory for the length of one host call.
///
/// It is a pointer and a length rather than a slice, because the kernel writes into it too. Nothing
/// grows the memory, and nothing else runs, while a host call lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuestMemory {
    base: *mut u8,
    length: usize,
}

impl GuestMemory {
    /// A memory of `length` bytes at `base`.
    ///
    /// # Safety
    ///
    /// The bytes must stay readable and writable, and untouched by other threads, for as long as
    /// the value is used.
    pub(crate) unsafe fn new(base: *mut u8, length: usize) -> Self {
        Self { base, length }
    }

    /// Checks that `length` bytes at `at` lie inside, and gives the host's pointer to them.
    fn check(self, at: u32, length: u32) -> Result<*mut u8> {
        let at = at as usize;
        let end = at.checked_add(length as usize).ok_or(Errno::FAULT)?;
        if end > self.length {
            return Err(Errno::FAULT);
        }
        // SAFETY: `at` is at most the length of the allocation that `base` points to.
        Ok(unsafe { self.base.add(at) })
    }

    /// `length` bytes at `at`, to read from.
    pub(crate) fn bytes(&self, at: u32, length: u32) -> Result<&[u8]> {
        let pointer = self.check(at, length)?;
        // SAFETY: checked to lie inside; nobody writes to it while `self` is borrowed.
        Ok(unsafe { std::slice::from_raw_parts(pointer, length as usize) })
    }

    /// `length` bytes at `at`, to write to.
    pub(crate) fn bytes_mut(&mut self, at: u32, length: u32) -> Result<&mut [u8]> {
        let pointer = self.check(at, length)?;
        // SAFETY: checked to lie inside; `self` is borrowed exclusively.
        Ok(unsafe { std::slice::from_raw_parts_mut(pointer, length as usize) })
    }

    /// Copies `bytes` to `at`.
    pub(crate) fn write(&mut self, at: u32, bytes: &[u8]) -> Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::OVERFLOW)?;
        self.bytes_mut(at, length)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Writes a 32-bit number.
    pub(crate) fn write_u32(&mut self, at: u32, value: u32) -> Result<()> {
        self.write(at, &value.to_le_bytes())
    }

    /// Writes a 64-bit number.
    pub(crate) fn write_u64(&mut self, at: u32, value: u64) -> Result<()> {
        self.write(at, &value.to_le_bytes())
    }

    /// The buffers of a witx `iovec_array` or `ciovec_array`, checked, for the kernel.
    ///
    /// They may overlap, which is why they are not slices.
    pub(crate) fn buffers(&self, at: u32, count: u32) -> Result<Vec<libc::iovec>> {
        let table = self.bytes(at, count.checked_mul(8).ok_or(Errno::FAULT)?)?;
        table
            .chunks_exact(8)
            .take(MOST_BUFFERS)
            .map(|entry| {
                let (at, length) = (number(entry, 0), number(entry, 4));
                let base = self.check(at, length)?.cast();
                Ok(libc::iovec { iov_base: base, iov_len: length as usize })
            })
            .collect()
    }
}

/// The 32-bit number at `offset` of a record that is known to be long enough.
pub(crate) fn number(record: &[u8], offset: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&record[offset..offset + 4]);
    u32::from_le_bytes(bytes)
}

/// The 64-bit number at `offset` of a record that is known to be long enough.
pub(crate) fn number64(record: &[u8], offset: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&record[offset..offset + 8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_is_reached() {
        let mut bytes = vec![0_u8; 64];
        // SAFETY: `bytes` outlives `memory` and is not used otherwise until the end.
        let mut memory = unsafe { GuestMemory::new(bytes.as_mut_ptr(), bytes.len()) };
        assert!(memory.bytes(0, 64).is_ok());
        assert_eq!(memory.bytes(64, 0).map(<[u8]>::len), Ok(0));
        assert_eq!(memory.bytes(65, 0), Err(Errno::FAULT));
        assert_eq!(memory.bytes(1, 64), Err(Errno::FAULT));
        assert_eq!(memory.bytes(u32::MAX, u32::MAX), Err(Errno::FAULT));
        assert_eq!(memory.write_u64(57, 1), Err(Errno::FAULT));
        assert_eq!(memory.buffers(0, u32::MAX).err(), Some(Errno::FAULT));
        memory.write_u32(0, 60).expect("inside");
        memory.write_u32(4, 8).expect("inside");
        assert_eq!(memory.buffers(0, 1).err(), Some(Errno::FAULT));
        memory.write_u32(4, 4).expect("inside");
        assert_eq!(memory.buffers(0, 1).map(|buffers| buffers.len()), Ok(1));
    }
}
