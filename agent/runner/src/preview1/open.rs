//! `path_open`: what a module asks for, what it may have, and how the kernel is asked.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::Wasi;
use super::errno::{Errno, Result};
use super::path::{follows, path};
use super::table::Descriptor;
use super::types::{FdFlags, Rights, oflags};
use crate::beneath;

/// The character devices that never block and lead nowhere (major 1 in Linux's devices.txt): null,
/// zero, full, random, urandom.
const HARMLESS: [(u32, u32); 5] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)];

/// What a module asks of `path_open`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// witx `lookupflags`.
    pub(crate) lookup: u32,
    /// witx `oflags`.
    pub(crate) open: u32,
    /// witx `rights`, for the descriptor and for what is opened beneath it.
    pub(crate) rights: (u64, u64),
    /// witx `fdflags`.
    pub(crate) flags: u32,
}

/// `path_open`.
pub(crate) fn open(
    wasi: &mut Wasi,
    fd: u32,
    (at, length): (u32, u32),
    request: Request,
    result: u32,
) -> Result<()> {
    let mut memory = wasi.memory()?;
    memory.bytes(result, 4)?;
    let path = path(wasi, at, length)?;
    let directory = wasi.table.directory(fd, Rights::PATH_OPEN)?;
    let flags = FdFlags::parse(request.flags).ok_or(Errno::INVAL)?;
    let asked = permit(directory, request)?;

    let how = how(request, flags, asked)?;
    let (handle, stat) = reach(directory, &path, how, request)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    usable(kind, &stat)?;

    let meaningful = if kind == FileType::Directory { Rights::DIRECTORY } else { Rights::FILE };
    let rights = (asked.and(meaningful), inherited(directory, request));
    let opened = Descriptor::opened(handle, kind, rights, flags, directory);
    let number = wasi.table.insert(opened)?;
    memory.write_u32(result, number)
}

/// What is opened beneath the new descriptor may have what was asked for and was not given up.
fn inherited(directory: &Descriptor, request: Request) -> Rights {
    let asked = Rights(request.rights.1).and(Rights::FILE.or(Rights::DIRECTORY));
    let asked = asked.without(directory.dropped.inheriting);
    if directory.read_only { asked.read_only() } else { asked }
}

/// Refuses what the directory's grant does not allow, and what the module gave up; gives the rights
/// that the descriptor will have.
fn permit(directory: &Descriptor, request: Request) -> Result<Rights> {
    if request.open & !oflags::ALL != 0 {
        return Err(Errno::INVAL);
    }
    let asked = Rights(request.rights.0);
    if directory.read_only
        && (asked.contains(Rights::FD_WRITE) || request.open & oflags::TRUNC != 0)
    {
        return Err(Errno::ROFS);
    }
    if asked.intersects(directory.dropped.inheriting) {
        return Err(Errno::NOTCAPABLE);
    }
    if request.open & oflags::CREAT != 0 {
        directory.require(Rights::PATH_CREATE_FILE)?;
    }
    if request.open & oflags::TRUNC != 0 {
        directory.require(Rights::PATH_FILESTAT_SET_SIZE)?;
    }
    Ok(if directory.read_only { asked.read_only() } else { asked })
}

/// The flags of the kernel for a request.
///
/// Whether the descriptor can write is up to `FD_WRITE` alone, as in other runtimes: programs that
/// only read ask for other rights to change a file, too.
///
/// `O_NONBLOCK` is always there, so that a FIFO or a device cannot make the opening hang; on a
/// regular file and on a directory it means nothing.
fn how(request: Request, flags: FdFlags, rights: Rights) -> Result<OFlags> {
    let has = |bit: u32| request.open & bit != 0;
    if has(oflags::DIRECTORY) {
        if has(oflags::CREAT | oflags::TRUNC) {
            return Err(Errno::INVAL);
        }
        if rights.contains(Rights::FD_WRITE) {
            return Err(Errno::ISDIR);
        }
        let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        return Ok(if follows(request.lookup)? { how } else { how | OFlags::NOFOLLOW });
    }
    let reads = rights.intersects(Rights::FD_READ.or(Rights::FD_READDIR));
    let writes = rights.contains(Rights::FD_WRITE) || has(oflags::TRUNC);
    let mut how = match (reads, writes) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    };
    how |= OFlags::NONBLOCK;
    how.set(OFlags::NOFOLLOW, !follows(request.lookup)?);
    how.set(OFlags::CREATE, has(oflags::CREAT));
    how.set(OFlags::EXCL, has(oflags::EXCL));
    how.set(OFlags::TRUNC, has(oflags::TRUNC));
    how.set(OFlags::APPEND, flags.contains(FdFlags::APPEND));
    Ok(how)
}

/// Opens the path, and says what it is.
fn reach(
    directory: &Descriptor,
    path: &[u8],
    how: OFlags,
    request: Request,
) -> Result<(OwnedFd, Stat)> {
    let mode = Mode::from_bits_truncate(0o666);
    let creates = how.contains(OFlags::CREATE);
    let handle = if directory.read_only && creates {
        reach_read_only(directory, path, how, request.open & oflags::EXCL != 0)?
    } else {
        beneath::open(directory.as_fd(), path, how, mode)?
    };
    let stat = rustix::fs::fstat(&handle)?;
    Ok((handle, stat))
}

/// Opening with `creat` beneath a read-only grant: right for what exists, `EROFS` for what does
/// not, as on a file system that is mounted read-only.
fn reach_read_only(
    directory: &Descriptor,
    path: &[u8],
    how: OFlags,
    exclusive: bool,
) -> Result<OwnedFd> {
    let how = how - OFlags::CREATE - OFlags::EXCL;
    match beneath::open(directory.as_fd(), path, how, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => Err(Errno::ROFS),
        Ok(_) if exclusive => Err(rustix::io::Errno::EXIST.into()),
        other => Ok(other?),
    }
}

/// Refuses FIFOs, sockets and devices: they lead out of the grant, and can block for ever.
fn usable(kind: FileType, stat: &Stat) -> Result<()> {
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    match kind {
        FileType::RegularFile | FileType::Directory => Ok(()),
        FileType::CharacterDevice if HARMLESS.contains(&device) => Ok(()),
        _ => Err(Errno::NXIO),
    }
}
