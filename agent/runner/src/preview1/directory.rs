//! `fd_readdir`: the kernel's own positions are the cookies, so nothing is kept between calls.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, RawDir, RawDirEntry, SeekFrom};

use super::Wasi;
use super::errno::{Errno, Result};
use super::types::{Rights, filetype};
use warmstep_host::narrow::Narrow;

/// The length of witx `dirent`, in bytes; the name comes after it.
const HEADER: usize = 24;

/// The room for entries of the kernel: about as many as fit into what the module offers.
const LEAST: usize = 1024;
const MOST: usize = 64 * 1024;

/// `fd_readdir`: entries from a cookie on, the last one cut where the buffer ends.
pub(crate) fn readdir(
    wasi: &mut Wasi,
    fd: u32,
    (buffer, length): (u32, u32),
    cookie: u64,
    result: u32,
) -> Result<()> {
    let mut memory = wasi.memory()?;
    memory.bytes(result, 4)?;
    let descriptor = wasi.table.directory(fd, Rights::FD_READDIR)?;
    let hide_parent = descriptor.preopen.is_some() || descriptor.narrow.is_some();
    let handle = descriptor.as_fd();
    let out = memory.bytes_mut(buffer, length)?;
    if let Some(narrow) = descriptor.narrow.as_deref().filter(|narrow| narrow.others.is_none()) {
        let used = list(out, handle, narrow, cookie)?;
        return memory.write_u32(result, u32::try_from(used).map_err(|_| Errno::OVERFLOW)?);
    }
    rustix::fs::seek(handle, SeekFrom::Start(cookie))?;
    let mut space = vec![MaybeUninit::uninit(); out.len().clamp(LEAST, MOST)];
    let mut entries = RawDir::new(handle, &mut space);
    let mut used = 0;
    while used < out.len() {
        let Some(entry) = entries.next() else { break };
        used += put(&mut out[used..], handle, &entry?, hide_parent)?;
    }
    memory.write_u32(result, u32::try_from(used).map_err(|_| Errno::OVERFLOW)?)
}

/// Lists the entries of a narrowed directory that are there; a cookie is the next one's place.
fn list(out: &mut [u8], directory: BorrowedFd<'_>, narrow: &Narrow, cookie: u64) -> Result<usize> {
    let own: [&[u8]; 2] = [b".", b".."];
    let own = own.into_iter().map(|name| (name, directory, &b"."[..]));
    let entries = narrow.entries.iter();
    let entries = entries.map(|e| (&e.name[..], e.place.0.as_fd(), &e.place.1[..]));
    let mut used = 0;
    let skipped = usize::try_from(cookie).unwrap_or(usize::MAX);
    for (next, (name, directory, there)) in (1_u64..).zip(own.chain(entries)).skip(skipped) {
        if used == out.len() {
            break;
        }
        // What is not there, or cannot be seen, is not listed.
        let Ok(stat) = rustix::fs::statat(directory, there, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        used += write(&mut out[used..], next, stat.st_ino, kind, name)?;
    }
    Ok(used)
}

/// Writes as much of an entry as fits, and says how much that is.
fn put(
    out: &mut [u8],
    directory: BorrowedFd<'_>,
    entry: &RawDirEntry<'_>,
    hide_parent: bool,
) -> Result<usize> {
    let name = entry.file_name().to_bytes();
    // What lies above a grant is not the module's business, not even its number.
    let inode = if hide_parent && name == b".." {
        rustix::fs::fstat(directory)?.st_ino
    } else {
        entry.ino()
    };
    write(out, entry.next_entry_cookie(), inode, kind(directory, entry), name)
}

/// Writes as much of a witx `dirent` and its name as fits.
fn write(out: &mut [u8], next: u64, inode: u64, kind: FileType, name: &[u8]) -> Result<usize> {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&next.to_le_bytes());
    header[8..16].copy_from_slice(&inode.to_le_bytes());
    let length = u32::try_from(name.len()).map_err(|_| Errno::OVERFLOW)?;
    header[16..20].copy_from_slice(&length.to_le_bytes());
    header[20] = filetype(kind);
    let from_header = out.len().min(HEADER);
    out[..from_header].copy_from_slice(&header[..from_header]);
    let rest = &mut out[from_header..];
    let from_name = rest.len().min(name.len());
    rest[..from_name].copy_from_slice(&name[..from_name]);
    Ok(from_header + from_name)
}

/// What an entry is; some file systems leave it to be asked.
fn kind(directory: BorrowedFd<'_>, entry: &RawDirEntry<'_>) -> FileType {
    match entry.file_type() {
        FileType::Unknown => {
            rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
        }
        known => known,
    }
}
