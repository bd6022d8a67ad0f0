//! The functions on paths other than `path_open`: each resolves beneath its directory.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::Wasi;
use super::errno::{Errno, Result};
use super::fd::{timestamps, write_filestat};
use super::types::{Abi, Rights, SYMLINK_FOLLOW};
use warmstep_host::narrow::Place;

/// The longest path that is looked at, in bytes (`PATH_MAX`).
const LONGEST: u32 = 4096;

/// A path of the module's memory, copied out of it: nothing may change it between checking and use.
pub(crate) fn path(wasi: &Wasi, at: u32, length: u32) -> Result<Vec<u8>> {
    if length > LONGEST {
        return Err(Errno::NAMETOOLONG);
    }
    let memory = wasi.memory()?;
    let bytes = memory.bytes(at, length)?;
    if bytes.contains(&0) { Err(Errno::INVAL) } else { Ok(bytes.to_vec()) }
}

/// Whether to follow a symbolic link at a path's end.
pub(crate) fn follows(flags: u32) -> Result<bool> {
    if flags & !SYMLINK_FOLLOW != 0 {
        return Err(Errno::INVAL);
    }
    Ok(flags & SYMLINK_FOLLOW != 0)
}

/// The flags to open what a path names without being able to read or write it.
fn handle(follow: bool) -> OFlags {
    if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW }
}

/// `path_create_directory`.
pub(crate) fn create_directory(wasi: &mut Wasi, fd: u32, at: u32, length: u32) -> Result<()> {
    let path = path(wasi, at, length)?;
    let directory = wasi.table.writable(fd, Rights::PATH_CREATE_DIRECTORY)?;
    let place = directory.place_to_create(&path)?.changeable()?;
    let (parent, name) = place.parent(rustix::io::Errno::EXIST)?;
    Ok(rustix::fs::mkdirat(parent, name, Mode::from_bits_truncate(0o777))?)
}

/// `path_filestat_get`.
pub(crate) fn filestat_get(
    wasi: &mut Wasi,
    abi: Abi,
    fd: u32,
    flags: u32,
    (at, length): (u32, u32),
    result: u32,
) -> Result<()> {
    let follow = follows(flags)?;
    let path = path(wasi, at, length)?;
    let directory = wasi.table.directory(fd, Rights::PATH_FILESTAT_GET)?;
    let found = directory.place(&path)?.open(handle(follow), Mode::empty())?;
    let stat = rustix::fs::fstat(found)?;
    write_filestat(wasi, abi, result, &stat)
}

/// `path_filestat_set_times`.
pub(crate) fn filestat_set_times(
    wasi: &mut Wasi,
    fd: u32,
    flags: u32,
    (at, length): (u32, u32),
    (accessed, modified): (u64, u64),
    which: u32,
) -> Result<()> {
    let times = timestamps(accessed, modified, which)?;
    let follow = follows(flags)?;
    let path = path(wasi, at, length)?;
    let directory = wasi.table.writable(fd, Rights::PATH_FILESTAT_SET_TIMES)?;
    let place = directory.place(&path)?.changeable()?;
    if let Place::Itself(_) = place {
        return Err(Errno::ROFS);
    }
    let found = place.open(handle(follow), Mode::empty())?;
    Ok(rustix::fs::utimensat(found, "", &times, AtFlags::EMPTY_PATH)?)
}

/// `path_link`: a second name for a file, never for what a symbolic link points to.
pub(crate) fn link(
    wasi: &mut Wasi,
    (from_fd, flags): (u32, u32),
    (from, from_length): (u32, u32),
    to_fd: u32,
    (to, to_length): (u32, u32),
) -> Result<()> {
    if follows(flags)? {
        return Err(Errno::INVAL);
    }
    let from = path(wasi, from, from_length)?;
    let to = path(wasi, to, to_length)?;
    // A second name in a writable grant would make a file of a read-only one writable.
    let source = wasi.table.writable(from_fd, Rights::PATH_LINK_SOURCE)?;
    let target = wasi.table.writable(to_fd, Rights::PATH_LINK_TARGET)?;
    let source = source.place(&from)?.changeable()?;
    let target = target.place_to_create(&to)?.changeable()?;
    let (from_parent, from_name) = source.parent(rustix::io::Errno::PERM)?;
    let (to_parent, to_name) = target.parent(rustix::io::Errno::EXIST)?;
    if from_name.ends_with(b"/") || matches!(from_name, b"." | b"..") {
        // It names a directory, or nothing: the kernel would follow a link to find out.
        source.open(OFlags::PATH, Mode::empty())?;
        return Err(Errno::PERM);
    }
    target.refuse_link(from_parent.as_fd(), from_name)?;
    Ok(rustix::fs::linkat(from_parent, from_name, to_parent, to_name, AtFlags::empty())?)
}

/// `path_readlink`: as much of the link as fits.
pub(crate) fn readlink(
    wasi: &mut Wasi,
    fd: u32,
    (at, length): (u32, u32),
    (buffer, room): (u32, u32),
    result: u32,
) -> Result<()> {
    let mut memory = wasi.memory()?;
    memory.bytes(buffer, room)?;
    memory.bytes(result, 4)?;
    let path = path(wasi, at, length)?;
    let directory = wasi.table.directory(fd, Rights::PATH_READLINK)?;
    let found = directory.place(&path)?.open(handle(false), Mode::empty())?;
    let link = match rustix::fs::readlinkat(found, "", Vec::new()) {
        // So the kernel says of an empty path that it is no link.
        Err(rustix::io::Errno::NOENT) => return Err(Errno::INVAL),
        other => other?.into_bytes(),
    };
    let used = link.len().min(room as usize);
    memory.write(buffer, &link[..used])?;
    memory.write_u32(result, u32::try_from(used).map_err(|_| Errno::OVERFLOW)?)
}

/// `path_remove_directory`.
pub(crate) fn remove_directory(wasi: &mut Wasi, fd: u32, at: u32, length: u32) -> Result<()> {
    let path = path(wasi, at, length)?;
    let directory = wasi.table.writable(fd, Rights::PATH_REMOVE_DIRECTORY)?;
    let place = directory.place(&path)?.changeable()?;
    let (parent, name) = place.parent(rustix::io::Errno::BUSY)?;
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// `path_rename`.
pub(crate) fn rename(
    wasi: &mut Wasi,
    from_fd: u32,
    (from, from_length): (u32, u32),
    to_fd: u32,
    (to, to_length): (u32, u32),
) -> Result<()> {
    let from = path(wasi, from, from_length)?;
    let to = path(wasi, to, to_length)?;
    let source = wasi.table.writable(from_fd, Rights::PATH_RENAME_SOURCE)?;
    let target = wasi.table.writable(to_fd, Rights::PATH_RENAME_TARGET)?;
    let source = source.place(&from)?.changeable()?;
    let target = target.place_to_create(&to)?.changeable()?;
    let (from_parent, from_name) = source.parent(rustix::io::Errno::BUSY)?;
    let (to_parent, to_name) = target.parent(rustix::io::Errno::BUSY)?;
    target.refuse_link(from_parent.as_fd(), from_name)?;
    Ok(rustix::fs::renameat(from_parent, from_name, to_parent, to_name)?)
}

/// `path_symlink`. What it points to is resolved when it is followed; one that begins at the root
/// could never be, and would mislead whoever reads the directory later.
///
/// Where paths are granted by themselves, Argo reads outputs that lie among other things of the pod:
/// there, no link points upwards, and none takes the place of an output.
pub(crate) fn symlink(
    wasi: &mut Wasi,
    (target, target_length): (u32, u32),
    fd: u32,
    (at, length): (u32, u32),
) -> Result<()> {
    let target = path(wasi, target, target_length)?;
    let path = path(wasi, at, length)?;
    let directory = wasi.table.writable(fd, Rights::PATH_SYMLINK)?;
    let upwards = || target.split(|byte| *byte == b'/').any(|name| name == b"..");
    if target.starts_with(b"/") || (wasi.narrowed && upwards()) {
        return Err(Errno::PERM);
    }
    let place = directory.place_to_create(&path)?.changeable()?;
    if let Place::Entry { .. } = place {
        return Err(Errno::PERM);
    }
    let (parent, name) = place.parent(rustix::io::Errno::EXIST)?;
    Ok(rustix::fs::symlinkat(target, parent, name)?)
}

/// `path_unlink_file`.
pub(crate) fn unlink_file(wasi: &mut Wasi, fd: u32, at: u32, length: u32) -> Result<()> {
    let path = path(wasi, at, length)?;
    let directory = wasi.table.writable(fd, Rights::PATH_UNLINK_FILE)?;
    let place = directory.place(&path)?.changeable()?;
    let (parent, name) = place.parent(rustix::io::Errno::ISDIR)?;
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
}
