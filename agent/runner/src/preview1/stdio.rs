//! The functions on a descriptor's bytes: reading, writing, seeking.
//!
//! The kernel reads into and writes from the module's memory directly; nothing is buffered here.

use std::os::fd::{AsFd, AsRawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, SeekFrom};

use super::Wasi;
use super::errno::{Errno, Result};
use super::fd::signed;
use super::table::Descriptor;
use super::types::{Abi, FdFlags, Rights};
use warmstep_host::ending;

/// What a pipe that is writable takes without blocking (`PIPE_BUF`).
const WITHOUT_BLOCKING: usize = 4096;

/// `fd_read`.
pub(crate) fn read(wasi: &mut Wasi, fd: u32, buffers: u32, count: u32, result: u32) -> Result<()> {
    let mut memory = wasi.memory()?;
    memory.bytes(result, 4)?;
    let descriptor = readable(wasi, fd)?;
    let buffers = memory.buffers(buffers, count)?;
    ready(descriptor, PollFlags::IN)?;
    let number = descriptor.as_fd().as_raw_fd();
    // SAFETY: every buffer was checked to lie in the module's memory.
    let done = transfer(|| unsafe { libc::readv(number, buffers.as_ptr(), length(&buffers)) })?;
    ending::count_read(done);
    memory.write_u32(result, done)
}

/// `fd_pread`.
pub(crate) fn pread(
    wasi: &mut Wasi,
    fd: u32,
    buffers: u32,
    count: u32,
    offset: u64,
    result: u32,
) -> Result<()> {
    let mut memory = wasi.memory()?;
    memory.bytes(result, 4)?;
    let descriptor = readable(wasi, fd)?;
    descriptor.require(Rights::FD_SEEK)?;
    let buffers = memory.buffers(buffers, count)?;
    let offset = signed(offset)?;
    let number = descriptor.as_fd().as_raw_fd();
    // SAFETY: every buffer was checked to lie in the module's memory.
    let done =
        transfer(|| unsafe { libc::preadv(number, buffers.as_ptr(), length(&buffers), offset) })?;
    ending::count_read(done);
    memory.write_u32(result, done)
}

/// `fd_write`.
pub(crate) fn write(wasi: &mut Wasi, fd: u32, buffers: u32, count: u32, result: u32) -> Result<()> {
    let mut memory = wasi.memory()?;
    memory.bytes(result, 4)?;
    let descriptor = writable(wasi, fd)?;
    let mut buffers = memory.buffers(buffers, count)?;
    ready(descriptor, PollFlags::OUT)?;
    if held_back(descriptor) {
        shorten(&mut buffers, WITHOUT_BLOCKING);
    }
    let number = descriptor.as_fd().as_raw_fd();
    // SAFETY: every buffer was checked to lie in the module's memory.
    let done = transfer(|| unsafe { libc::writev(number, buffers.as_ptr(), length(&buffers)) })?;
    ending::count_written(done);
    settle(descriptor)?;
    memory.write_u32(result, done)
}

/// `fd_pwrite`.
pub(crate) fn pwrite(
    wasi: &mut Wasi,
    fd: u32,
    buffers: u32,
    count: u32,
    offset: u64,
    result: u32,
) -> Result<()> {
    let mut memory = wasi.memory()?;
    memory.bytes(result, 4)?;
    let descriptor = writable(wasi, fd)?;
    descriptor.require(Rights::FD_SEEK)?;
    let buffers = memory.buffers(buffers, count)?;
    let offset = signed(offset)?;
    let number = descriptor.as_fd().as_raw_fd();
    // SAFETY: every buffer was checked to lie in the module's memory.
    let done =
        transfer(|| unsafe { libc::pwritev(number, buffers.as_ptr(), length(&buffers), offset) })?;
    ending::count_written(done);
    settle(descriptor)?;
    memory.write_u32(result, done)
}

/// `fd_seek`.
pub(crate) fn seek(
    wasi: &mut Wasi,
    abi: Abi,
    fd: u32,
    offset: u64,
    whence: u32,
    result: u32,
) -> Result<()> {
    let mut memory = wasi.memory()?;
    memory.bytes(result, 8)?;
    let offset = offset.cast_signed();
    let from = match (abi, whence) {
        (Abi::Preview1, 0) | (Abi::Unstable, 2) => SeekFrom::Start(unsigned(offset)?),
        (Abi::Preview1, 1) | (Abi::Unstable, 0) => SeekFrom::Current(offset),
        (Abi::Preview1, 2) | (Abi::Unstable, 1) => SeekFrom::End(offset),
        _ => return Err(Errno::INVAL),
    };
    let descriptor = not_a_directory(wasi, fd)?;
    // To seek nowhere is to tell, which may be left where seeking was given up.
    let tells = from == SeekFrom::Current(0) && descriptor.require(Rights::FD_TELL).is_ok();
    if !tells {
        descriptor.require(Rights::FD_SEEK)?;
    }
    memory.write_u64(result, rustix::fs::seek(descriptor, from)?)
}

/// `fd_tell`.
pub(crate) fn tell(wasi: &mut Wasi, fd: u32, result: u32) -> Result<()> {
    let mut memory = wasi.memory()?;
    memory.bytes(result, 8)?;
    let descriptor = not_a_directory(wasi, fd)?;
    descriptor.require(Rights::FD_TELL)?;
    memory.write_u64(result, rustix::fs::tell(descriptor)?)
}

fn not_a_directory(wasi: &Wasi, fd: u32) -> Result<&Descriptor> {
    let descriptor = wasi.table.get(fd)?;
    if descriptor.kind == FileType::Directory { Err(Errno::ISDIR) } else { Ok(descriptor) }
}

fn readable(wasi: &Wasi, fd: u32) -> Result<&Descriptor> {
    let descriptor = not_a_directory(wasi, fd)?;
    descriptor.require_asked(Rights::FD_READ)?;
    Ok(descriptor)
}

fn writable(wasi: &Wasi, fd: u32) -> Result<&Descriptor> {
    let descriptor = not_a_directory(wasi, fd)?;
    descriptor.require_writable()?;
    descriptor.require_asked(Rights::FD_WRITE)?;
    Ok(descriptor)
}

fn unsigned(offset: i64) -> Result<u64> {
    u64::try_from(offset).map_err(|_| Errno::INVAL)
}

fn length(buffers: &[libc::iovec]) -> libc::c_int {
    // `buffers` are at most `IOV_MAX`.
    libc::c_int::try_from(buffers.len()).unwrap_or(libc::c_int::MAX)
}

/// Whether the module asked one of the process's own three not to block. Those are shared with
/// other processes, so the flag is not set on them: readiness is asked for instead.
fn held_back(descriptor: &Descriptor) -> bool {
    descriptor.is_stdio() && descriptor.flags.contains(FdFlags::NONBLOCK)
}

fn ready(descriptor: &Descriptor, events: PollFlags) -> Result<()> {
    if !held_back(descriptor) {
        return Ok(());
    }
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut polled = [PollFd::new(descriptor, events)];
    if poll(&mut polled, Some(&now))? == 0 { Err(Errno::AGAIN) } else { Ok(()) }
}

/// Cuts buffers to `most` bytes in all.
fn shorten(buffers: &mut [libc::iovec], most: usize) {
    let mut left = most;
    for buffer in buffers {
        buffer.iov_len = buffer.iov_len.min(left);
        left -= buffer.iov_len;
    }
}

/// Syncs after a write where the module asked for it after opening.
fn settle(descriptor: &Descriptor) -> Result<()> {
    if descriptor.kind != FileType::RegularFile {
        return Ok(());
    }
    if descriptor.flags.contains(FdFlags::SYNC) {
        rustix::fs::fsync(descriptor)?;
    } else if descriptor.flags.contains(FdFlags::DSYNC) {
        rustix::fs::fdatasync(descriptor)?;
    }
    Ok(())
}

/// A system call that gives a number of bytes, done again when a signal cuts it short.
pub(crate) fn transfer(mut call: impl FnMut() -> libc::ssize_t) -> Result<u32> {
    loop {
        // Linux moves at most 2 GiB at once, so the number fits.
        if let Ok(done) = u32::try_from(call()) {
            return Ok(done);
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error.into());
        }
    }
}
