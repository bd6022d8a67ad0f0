//! An image that is open: its pages become a new memory's, its names are there for backtraces.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

use crate::format::{FormatError, HEAD, Head, Run};
use crate::names::{MAX_NAMES, Names};

/// An image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It could not be read.
    #[error("cannot read the module's image: {0}")]
    Read(#[from] io::Error),
    /// It is not what it should be.
    #[error("cannot use the module's image: {0}")]
    Format(#[from] FormatError),
    /// It is not for this memory.
    #[error("the module's image is for a memory of {image} bytes, but there are {memory}")]
    Memory {
        /// The least that the image needs, in bytes.
        image: u64,
        /// What there is, in bytes.
        memory: u64,
    },
    /// The kernel maps no more.
    #[error("cannot map the module's image: {0}")]
    Map(io::Error),
}

/// An image whose header is checked.
#[derive(Debug)]
pub struct Image {
    file: OwnedFd,
    head: Head,
}

impl Image {
    /// Reads the header, and checks that everything it speaks of is there.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is no image for this machine.
    pub fn open(file: OwnedFd) -> Result<Self, ImageError> {
        let length = rustix::fs::fstat(&file).map_err(io::Error::from)?.st_size;
        let mut bytes = [0; HEAD];
        let bytes = read_at(&file, &mut bytes, 0)?;
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(u64::MAX);
        let head = Head::decode(bytes, u64::try_from(length).unwrap_or(0), page)?;
        Ok(Self { file, head })
    }

    /// The length of the memory that the image is for when it is new, in bytes.
    pub fn memory(&self) -> u64 {
        self.head.memory
    }

    /// Which pages of the memory are in the image.
    pub fn runs(&self) -> &[Run] {
        &self.head.runs
    }

    /// Puts the image's pages into a memory, copy-on-write.
    ///
    /// # Errors
    ///
    /// When the memory is too short, or the kernel refuses. Some pages may be there then.
    ///
    /// # Safety
    ///
    /// - `base` begins `length` bytes of whole pages, readable and writable, that the caller mapped
    ///   and will unmap; their contents may be replaced, and nobody holds a reference to them.
    /// - Nobody changes the image's file for as long as the mapping lives. Truncating it would end
    ///   the process with SIGBUS.
    pub unsafe fn map_into(&self, base: NonNull<u8>, length: usize) -> Result<(), ImageError> {
        let memory = u64::try_from(length).unwrap_or(0);
        let fits = self.head.runs.last().is_none_or(|run| run.memory + run.length <= memory);
        if !fits || memory < self.head.memory {
            return Err(ImageError::Memory { image: self.head.memory, memory });
        }
        if !base.addr().get().is_multiple_of(rustix::param::page_size()) {
            return Err(FormatError::Damaged("the memory is not aligned to pages").into());
        }
        for run in &self.head.runs {
            let whole = |value: u64| {
                usize::try_from(value).map_err(|_| FormatError::Damaged("a run is too long"))
            };
            let (at, bytes) = (whole(run.memory)?, whole(run.length)?);
            // SAFETY: the run lies within the caller's pages, as `decode` and the check above have
            // seen to; the caller lets us replace them.
            unsafe {
                rustix::mm::mmap(
                    base.as_ptr().add(at).cast(),
                    bytes,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::PRIVATE | MapFlags::FIXED,
                    &self.file,
                    run.file,
                )
            }
            .map_err(|error| ImageError::Map(error.into()))?;
        }
        Ok(())
    }

    /// Reads the names of the module's functions.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or are damaged.
    pub fn names(&self) -> Result<Names, ImageError> {
        let (at, length) = self.head.names;
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_NAMES);
        let length = length.ok_or(FormatError::Damaged("its names are too long"))?;
        let mut bytes = vec![0; length];
        if read_at(&self.file, &mut bytes, at)?.len() < length {
            return Err(FormatError::CutOff("its names are not all there").into());
        }
        Ok(Names::decode(bytes)?)
    }
}

/// Reads as much as there is, wherever the descriptor's own offset is.
fn read_at(file: impl AsFd, buffer: &mut [u8], at: u64) -> io::Result<&mut [u8]> {
    let mut filled = 0;
    while filled < buffer.len() {
        let from = at.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
        match rustix::io::pread(file.as_fd(), &mut buffer[filled..], from) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(&mut buffer[..filled])
}
