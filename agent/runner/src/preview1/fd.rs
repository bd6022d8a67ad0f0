//! The functions on one descriptor that are not about its bytes: `fd_close` and its siblings.

use rustix::fs::{Advice, FallocateFlags, FileType, OFlags, Stat, Timespec, Timestamps};

use super::Wasi;
use super::errno::{Errno, Result};
use super::types::{Abi, FdFlags, Rights, filetype, fstflags};

/// `fd_advise`: how a range will be read.
pub(crate) fn advise(
    wasi: &mut Wasi,
    fd: u32,
    offset: u64,
    length: u64,
    advice: u32,
) -> Result<()> {
    let advice = match advice {
        0 => Advice::Normal,
        1 => Advice::Sequential,
        2 => Advice::Random,
        3 => Advice::WillNeed,
        4 => Advice::DontNeed,
        5 => Advice::NoReuse,
        _ => return Err(Errno::INVAL),
    };
    let descriptor = wasi.table.get(fd)?;
    if descriptor.kind == FileType::Directory {
        return Err(Errno::BADF);
    }
    descriptor.require(Rights::FD_ADVISE)?;
    // Linux counts with signed numbers; a length of zero means to the end.
    signed(offset)?;
    signed(length)?;
    rustix::fs::fadvise(descriptor, offset, std::num::NonZeroU64::new(length), advice)?;
    Ok(())
}

/// `fd_allocate`: makes room for a range, growing the file if it ends before.
pub(crate) fn allocate(wasi: &mut Wasi, fd: u32, offset: u64, length: u64) -> Result<()> {
    let descriptor = wasi.table.get(fd)?;
    if descriptor.kind == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    descriptor.require_writable()?;
    descriptor.require(Rights::FD_ALLOCATE)?;
    descriptor.require_asked(Rights::FD_WRITE)?;
    signed(offset)?;
    signed(length)?;
    rustix::fs::fallocate(descriptor, FallocateFlags::empty(), offset, length)?;
    Ok(())
}

/// `fd_close`.
pub(crate) fn close(wasi: &mut Wasi, fd: u32) -> Result<()> {
    wasi.table.remove(fd).map(drop)
}

/// `fd_datasync`.
pub(crate) fn datasync(wasi: &mut Wasi, fd: u32) -> Result<()> {
    Ok(rustix::fs::fdatasync(wasi.table.with(fd, Rights::FD_DATASYNC)?)?)
}

/// `fd_sync`.
pub(crate) fn sync(wasi: &mut Wasi, fd: u32) -> Result<()> {
    Ok(rustix::fs::fsync(wasi.table.with(fd, Rights::FD_SYNC)?)?)
}

/// `fd_fdstat_get`: witx `fdstat`, 24 bytes.
pub(crate) fn fdstat_get(wasi: &mut Wasi, fd: u32, result: u32) -> Result<()> {
    let descriptor = wasi.table.get(fd)?;
    let mut record = [0; 24];
    record[0] = filetype(descriptor.kind);
    record[2..4].copy_from_slice(&descriptor.flags.0.to_le_bytes());
    record[8..16].copy_from_slice(&descriptor.rights.0.to_le_bytes());
    record[16..24].copy_from_slice(&descriptor.inheriting.0.to_le_bytes());
    wasi.memory()?.write(result, &record)
}

/// `fd_fdstat_set_flags`.
pub(crate) fn fdstat_set_flags(wasi: &mut Wasi, fd: u32, flags: u32) -> Result<()> {
    let flags = FdFlags::parse(flags).ok_or(Errno::INVAL)?;
    let descriptor = wasi.table.get_mut(fd)?;
    descriptor.require(Rights::FD_FDSTAT_SET_FLAGS)?;
    // The flags of the process's own three are shared with other processes: there, only
    // `NONBLOCK` is taken, and it is kept to ourselves (see `stdio`).
    if descriptor.is_stdio() {
        let append = |flags: FdFlags| flags.contains(FdFlags::APPEND);
        if append(flags) != append(descriptor.flags) {
            return Err(Errno::NOTSUP);
        }
    } else {
        let mut wanted = rustix::fs::fcntl_getfl(&*descriptor)?;
        wanted.set(OFlags::APPEND, flags.contains(FdFlags::APPEND));
        wanted.set(OFlags::NONBLOCK, flags.contains(FdFlags::NONBLOCK));
        rustix::fs::fcntl_setfl(&*descriptor, wanted)?;
    }
    // Linux takes no `O_SYNC` after opening: `stdio` syncs after each write where the flag is set.
    descriptor.flags = flags;
    Ok(())
}

/// `fd_fdstat_set_rights`: rights can only be given up.
pub(crate) fn fdstat_set_rights(
    wasi: &mut Wasi,
    fd: u32,
    base: u64,
    inheriting: u64,
) -> Result<()> {
    wasi.table.get_mut(fd)?.restrict(Rights(base), Rights(inheriting))
}

/// `fd_filestat_get`.
pub(crate) fn filestat_get(wasi: &mut Wasi, abi: Abi, fd: u32, result: u32) -> Result<()> {
    let stat = rustix::fs::fstat(wasi.table.with(fd, Rights::FD_FILESTAT_GET)?)?;
    write_filestat(wasi, abi, result, &stat)
}

/// `fd_filestat_set_size`.
pub(crate) fn filestat_set_size(wasi: &mut Wasi, fd: u32, size: u64) -> Result<()> {
    let descriptor = wasi.table.get(fd)?;
    if descriptor.kind == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    descriptor.require_writable()?;
    descriptor.require(Rights::FD_FILESTAT_SET_SIZE)?;
    descriptor.require_asked(Rights::FD_WRITE)?;
    signed(size)?;
    Ok(rustix::fs::ftruncate(descriptor, size)?)
}

/// `fd_filestat_set_times`.
pub(crate) fn filestat_set_times(
    wasi: &mut Wasi,
    fd: u32,
    accessed: u64,
    modified: u64,
    flags: u32,
) -> Result<()> {
    let times = timestamps(accessed, modified, flags)?;
    let descriptor = wasi.table.get(fd)?;
    descriptor.require_writable()?;
    descriptor.require(Rights::FD_FILESTAT_SET_TIMES)?;
    Ok(rustix::fs::futimens(descriptor, &times)?)
}

/// `fd_prestat_get`: witx `prestat`, a directory and the length of its name.
pub(crate) fn prestat_get(wasi: &mut Wasi, fd: u32, result: u32) -> Result<()> {
    let name = wasi.table.get(fd)?.preopen.as_ref().ok_or(Errno::BADF)?;
    let length = u32::try_from(name.len()).map_err(|_| Errno::OVERFLOW)?;
    let mut record = [0; 8];
    record[4..].copy_from_slice(&length.to_le_bytes());
    wasi.memory()?.write(result, &record)
}

/// `fd_prestat_dir_name`.
pub(crate) fn prestat_dir_name(wasi: &mut Wasi, fd: u32, path: u32, length: u32) -> Result<()> {
    let mut memory = wasi.memory()?;
    let name = wasi.table.get(fd)?.preopen.as_ref().ok_or(Errno::BADF)?;
    if name.len() > length as usize {
        return Err(Errno::NAMETOOLONG);
    }
    memory.write(path, name)
}

/// `fd_renumber`.
pub(crate) fn renumber(wasi: &mut Wasi, from: u32, to: u32) -> Result<()> {
    wasi.table.renumber(from, to)
}

/// Writes witx `filestat`: 64 bytes, or 56 in `wasi_unstable`, whose link count has 32 bits.
pub(crate) fn write_filestat(wasi: &mut Wasi, abi: Abi, result: u32, stat: &Stat) -> Result<()> {
    let mut record = [0; 64];
    record[..8].copy_from_slice(&stat.st_dev.to_le_bytes());
    record[8..16].copy_from_slice(&stat.st_ino.to_le_bytes());
    record[16] = filetype(FileType::from_raw_mode(stat.st_mode));
    #[allow(clippy::useless_conversion, reason = "it has 32 bits on other machines")]
    let links = u64::from(stat.st_nlink);
    let rest = match abi {
        Abi::Preview1 => {
            record[24..32].copy_from_slice(&links.to_le_bytes());
            32
        }
        Abi::Unstable => {
            let links = u32::try_from(links).unwrap_or(u32::MAX);
            record[20..24].copy_from_slice(&links.to_le_bytes());
            24
        }
    };
    let times = [
        (stat.st_atime, stat.st_atime_nsec),
        (stat.st_mtime, stat.st_mtime_nsec),
        (stat.st_ctime, stat.st_ctime_nsec),
    ];
    let numbers = [stat.st_size.cast_unsigned()].into_iter().chain(
        times.into_iter().map(|(seconds, nanoseconds)| nanoseconds_of(seconds, nanoseconds)),
    );
    for (index, number) in numbers.enumerate() {
        let at = rest + index * 8;
        record[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    wasi.memory()?.write(result, &record[..rest + 32])
}

/// Nanoseconds since 1970; what lies before has no number in WASI and is 0.
fn nanoseconds_of(seconds: i64, nanoseconds: u64) -> u64 {
    u64::try_from(seconds)
        .map_or(0, |seconds| seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

/// The times to set, of the arguments of the two functions that do.
pub(crate) fn timestamps(accessed: u64, modified: u64, flags: u32) -> Result<Timestamps> {
    if flags & !fstflags::ALL != 0 {
        return Err(Errno::INVAL);
    }
    let time = |value: u64, set: u32, now: u32| match (flags & set != 0, flags & now != 0) {
        (true, true) => Err(Errno::INVAL),
        (true, false) => Ok(Timespec {
            tv_sec: i64::try_from(value / 1_000_000_000).map_err(|_| Errno::INVAL)?,
            tv_nsec: i64::try_from(value % 1_000_000_000).map_err(|_| Errno::INVAL)?,
        }),
        (false, true) => Ok(Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW }),
        (false, false) => Ok(Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT }),
    };
    Ok(Timestamps {
        last_access: time(accessed, fstflags::ATIM, fstflags::ATIM_NOW)?,
        last_modification: time(modified, fstflags::MTIM, fstflags::MTIM_NOW)?,
    })
}

/// Refuses what is beyond Linux's signed offsets.
pub(crate) fn signed(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| Errno::INVAL)
}
