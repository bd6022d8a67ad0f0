//! An open file of a grant, for wasmer-wasix.
//!
//! Everything is done at once: a regular file never makes its reader wait for somebody else.

use std::io::{self, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::fs::{AtFlags, StatxFlags, Timespec, Timestamps, UTIME_OMIT, statx};
use virtual_fs::{
    AsyncRead, AsyncSeek, AsyncWrite, FsError, Metadata, ReadBuf, Result, VirtualFile,
};
use warmstep_host::ending;

use crate::filesystem::{Granted, failed, metadata};

/// An open file.
#[derive(Debug)]
pub(crate) struct GrantedFile {
    granted: Granted,
    path: PathBuf,
    file: OwnedFd,
    position: u64,
    /// Whether something was written that may not be on the disk.
    dirty: bool,
}

impl GrantedFile {
    /// A regular file that was opened by this path.
    pub(crate) fn new(granted: Granted, path: &Path, file: OwnedFd) -> Self {
        Self { granted, path: path.to_owned(), file, position: 0, dirty: false }
    }

    fn metadata(&self) -> Metadata {
        let stat = statx(&self.file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
        stat.map(|stat| metadata(&stat)).unwrap_or_default()
    }
}

impl VirtualFile for GrantedFile {
    fn last_accessed(&self) -> u64 {
        self.metadata().accessed
    }

    fn last_modified(&self) -> u64 {
        self.metadata().modified
    }

    fn created_time(&self) -> u64 {
        self.metadata().created
    }

    fn set_times(&mut self, accessed: Option<u64>, modified: Option<u64>) -> Result<()> {
        let times = Timestamps { last_access: time(accessed), last_modification: time(modified) };
        rustix::fs::futimens(&self.file, &times).map_err(failed)
    }

    fn size(&self) -> u64 {
        self.metadata().len
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        self.dirty = true;
        rustix::fs::ftruncate(&self.file, length).map_err(failed)
    }

    fn unlink(&mut self) -> Result<()> {
        self.granted.remove(&self.path, AtFlags::empty())
    }

    fn poll_read_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let left = self.metadata().len.saturating_sub(self.position);
        Poll::Ready(Ok(usize::try_from(left).unwrap_or(usize::MAX)))
    }

    fn poll_write_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(1))
    }
}

/// A time in nanoseconds, or to leave it as it is.
fn time(nanoseconds: Option<u64>) -> Timespec {
    const SECOND: u64 = 1_000_000_000;
    match nanoseconds {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(all) => Timespec {
            tv_sec: i64::try_from(all / SECOND).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(all % SECOND).unwrap_or(0),
        },
    }
}

impl AsyncRead for GrantedFile {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = rustix::io::retry_on_intr(|| {
            rustix::io::pread(&this.file, buffer.initialize_unfilled(), this.position)
        })?;
        buffer.advance(read);
        this.position += read as u64;
        ending::count_read(u32::try_from(read).unwrap_or(u32::MAX));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GrantedFile {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written =
            rustix::io::retry_on_intr(|| rustix::io::pwrite(&this.file, bytes, this.position))?;
        this.dirty |= written > 0;
        this.position += written as u64;
        ending::count_written(u32::try_from(written).unwrap_or(u32::MAX));
        Poll::Ready(Ok(written))
    }

    /// wasmer-wasix calls it for `fd_sync` and `fd_datasync`, which must not lie; and, of files that
    /// were written, before they are closed.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.dirty {
            rustix::fs::fsync(&this.file)?;
            this.dirty = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl AsyncSeek for GrantedFile {
    fn start_seek(self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let this = self.get_mut();
        let (from, by) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(by) => (this.position, by),
            SeekFrom::End(by) => (this.metadata().len, by),
        };
        let position = from.checked_add_signed(by).ok_or(FsError::InvalidInput)?;
        this.position = position;
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}
