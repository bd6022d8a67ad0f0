//! `path_open`: what a module asks for, what it may have, and how the kernel is asked.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::Wasi;
use super::errno::{Errno, Result};
use super::path::{follows, path};
use super::table::Descriptor;
use super::types::{FdFlags, Rights, oflags};
use warmstep_host::narrow::Place;

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
    let place = match request.open & oflags::CREAT {
        0 => directory.place(&path)?,
        _ => directory.place_to_create(&path)?,
    };
    let read_only = match place {
        Place::Itself(_) => directory.read_only,
        _ => place.is_read_only(),
    };
    let asked = permit(directory, read_only, request)?;

    let how = how(request, flags, asked)?;
    let (handle, stat) = reach(&place, how, request)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    usable(kind, &stat)?;

    let meaningful = if kind == FileType::Directory { Rights::DIRECTORY } else { Rights::FILE };
    let rights = (asked.and(meaningful), inherited(directory, read_only, request));
    let mut opened = Descriptor::opened(handle, kind, rights, flags, read_only, directory);
    if let Place::Itself(_) = place {
        opened.narrow = directory.narrow.clone();
    }
    let number = wasi.table.insert(opened)?;
    memory.write_u32(result, number)
}

/// What is opened beneath the new descriptor may have what was asked for and was not given up.
fn inherited(directory: &Descriptor, read_only: bool, request: Request) -> Rights {
    let asked = Rights(request.rights.1).and(Rights::FILE.or(Rights::DIRECTORY));
    let asked = asked.without(directory.dropped.inheriting);
    if read_only { asked.read_only() } else { asked }
}

/// Refuses what the directory's grant does not allow, and what the module gave up; gives the rights
/// that the descriptor will have.
fn permit(directory: &Descriptor, read_only: bool, request: Request) -> Result<Rights> {
    if request.open & !oflags::ALL != 0 {
        return Err(Errno::INVAL);
    }
    let asked = Rights(request.rights.0);
    if read_only && (asked.contains(Rights::FD_WRITE) || request.open & oflags::TRUNC != 0) {
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
    Ok(if read_only { asked.read_only() } else { asked })
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

/// Opens the place, and says what is there.
fn reach(place: &Place<'_>, how: OFlags, request: Request) -> Result<(OwnedFd, Stat)> {
    let exclusive = request.open & oflags::EXCL != 0;
    let handle = match place {
        Place::Itself(directory) => again(*directory, how, exclusive)?,
        _ if place.is_read_only() && how.contains(OFlags::CREATE) => {
            reach_read_only(place, how, exclusive)?
        }
        _ => place.open(how, Mode::from_bits_truncate(0o666))?,
    };
    let stat = rustix::fs::fstat(&handle)?;
    Ok((handle, stat))
}

/// A narrowed directory once more. It is not opened: Landlock grants its entries, not itself.
fn again(directory: BorrowedFd<'_>, how: OFlags, exclusive: bool) -> Result<OwnedFd> {
    if how.contains(OFlags::CREATE) && exclusive {
        return Err(Errno::EXIST);
    }
    if how.intersects(OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::RDWR) {
        return Err(Errno::ISDIR);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(directory, 3)?)
}

/// Opening with `creat` beneath a read-only grant: right for what exists, `EROFS` for what does
/// not, as on a file system that is mounted read-only.
fn reach_read_only(place: &Place<'_>, how: OFlags, exclusive: bool) -> Result<OwnedFd> {
    match place.open(how - OFlags::CREATE - OFlags::EXCL, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => Err(Errno::ROFS),
        Ok(_) if exclusive => Err(Errno::EXIST),
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
