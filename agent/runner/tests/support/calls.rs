//! The functions of preview 1, as a test would like to call them: with paths and records.

use super::puppet::Puppet;

/// Numbers of witx `errno` that tests expect.
pub(crate) mod errno {
    pub(crate) const ACCES: u16 = 2;
    pub(crate) const AGAIN: u16 = 6;
    pub(crate) const BADF: u16 = 8;
    pub(crate) const BUSY: u16 = 10;
    pub(crate) const EXIST: u16 = 20;
    pub(crate) const FAULT: u16 = 21;
    pub(crate) const INVAL: u16 = 28;
    pub(crate) const ISDIR: u16 = 31;
    pub(crate) const LOOP: u16 = 32;
    pub(crate) const MFILE: u16 = 33;
    pub(crate) const NAMETOOLONG: u16 = 37;
    pub(crate) const NOENT: u16 = 44;
    pub(crate) const NOTDIR: u16 = 54;
    pub(crate) const NOTEMPTY: u16 = 55;
    pub(crate) const NOTSOCK: u16 = 57;
    pub(crate) const NOTSUP: u16 = 58;
    pub(crate) const NXIO: u16 = 60;
    pub(crate) const PERM: u16 = 63;
    pub(crate) const PIPE: u16 = 64;
    pub(crate) const ROFS: u16 = 69;
    pub(crate) const SPIPE: u16 = 70;
    pub(crate) const NOTCAPABLE: u16 = 76;
}

/// Bits of witx `rights` that tests use.
pub(crate) mod rights {
    pub(crate) const DATASYNC: u64 = 1;
    pub(crate) const READ: u64 = 1 << 1;
    pub(crate) const SEEK: u64 = 1 << 2;
    pub(crate) const SET_FLAGS: u64 = 1 << 3;
    pub(crate) const SYNC: u64 = 1 << 4;
    pub(crate) const TELL: u64 = 1 << 5;
    pub(crate) const WRITE: u64 = 1 << 6;
    pub(crate) const ADVISE: u64 = 1 << 7;
    pub(crate) const ALLOCATE: u64 = 1 << 8;
    pub(crate) const PATH_OPEN: u64 = 1 << 13;
    pub(crate) const READDIR: u64 = 1 << 14;
    pub(crate) const PATH_SET_SIZE: u64 = 1 << 19;
    pub(crate) const STAT: u64 = 1 << 21;
    pub(crate) const SET_SIZE: u64 = 1 << 22;
    pub(crate) const SET_TIMES: u64 = 1 << 23;
    pub(crate) const POLL: u64 = 1 << 27;
    /// Every bit there is.
    pub(crate) const ALL: u64 = (1 << 30) - 1;
    /// What reads and stats.
    pub(crate) const READER: u64 = READ | SEEK | TELL | STAT | ADVISE | POLL | READDIR | SET_FLAGS;
    /// What also changes.
    pub(crate) const WRITER: u64 =
        READER | WRITE | ALLOCATE | SET_SIZE | SET_TIMES | SYNC | DATASYNC;
}

pub(crate) const CREAT: u32 = 1;
pub(crate) const DIRECTORY: u32 = 2;
pub(crate) const EXCL: u32 = 4;
pub(crate) const TRUNC: u32 = 8;

pub(crate) const APPEND: u32 = 1;
pub(crate) const NONBLOCK: u32 = 4;
pub(crate) const SYNC: u32 = 16;

pub(crate) const FOLLOW: u32 = 1;
pub(crate) const NOFOLLOW: u32 = 0;

/// witx `filetype`.
pub(crate) const CHARACTER_DEVICE: u8 = 2;
pub(crate) const DIRECTORY_TYPE: u8 = 3;
pub(crate) const REGULAR_FILE: u8 = 4;
pub(crate) const SOCKET: u8 = 6;
pub(crate) const SYMBOLIC_LINK: u8 = 7;

/// witx `fdstat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FdStat {
    pub(crate) kind: u8,
    pub(crate) flags: u16,
    pub(crate) base: u64,
    pub(crate) inheriting: u64,
}

/// witx `filestat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) kind: u8,
    pub(crate) links: u64,
    pub(crate) size: u64,
    pub(crate) accessed: u64,
    pub(crate) modified: u64,
}

/// witx `dirent` with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) next: u64,
    pub(crate) inode: u64,
    pub(crate) kind: u8,
    pub(crate) name: Vec<u8>,
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub(crate) fn filestat(bytes: &[u8]) -> FileStat {
    FileStat {
        device: u64_at(bytes, 0),
        inode: u64_at(bytes, 8),
        kind: bytes[16],
        links: u64_at(bytes, 24),
        size: u64_at(bytes, 32),
        accessed: u64_at(bytes, 40),
        modified: u64_at(bytes, 48),
    }
}

impl Puppet {
    fn path(&mut self, path: impl AsRef<[u8]>) -> (u64, u64) {
        let path = path.as_ref();
        (self.put(path).into(), path.len() as u64)
    }

    /// `path_open` with everything there is to say.
    pub(crate) fn open_at(
        &mut self,
        fd: u32,
        path: impl AsRef<[u8]>,
        lookup: u32,
        oflags: u32,
        rights: (u64, u64),
        fdflags: u32,
    ) -> Result<u32, u16> {
        self.forget();
        let (at, length) = self.path(path);
        let out = self.room(4);
        let arguments = [
            fd.into(),
            lookup.into(),
            at,
            length,
            oflags.into(),
            rights.0,
            rights.1,
            fdflags.into(),
            out.into(),
        ];
        self.done("path_open", &arguments)?;
        Ok(u32_at(&self.peek(out, 4), 0))
    }

    /// Opens beneath descriptor 3, following links.
    pub(crate) fn open(&mut self, path: &str, oflags: u32, rights: u64) -> Result<u32, u16> {
        self.open_at(3, path, FOLLOW, oflags, (rights, rights), 0)
    }

    /// Makes a file beneath descriptor 3.
    pub(crate) fn create(&mut self, path: &str) {
        let fd = self.open(path, CREAT, rights::WRITER).expect("the file can be created");
        self.close(fd).expect("it can be closed");
    }

    pub(crate) fn close(&mut self, fd: u32) -> Result<(), u16> {
        self.done("fd_close", &[fd.into()])
    }

    /// A call on a path beneath a descriptor, without more arguments.
    pub(crate) fn on_path(
        &mut self,
        name: &str,
        fd: u32,
        path: impl AsRef<[u8]>,
    ) -> Result<(), u16> {
        self.forget();
        let (at, length) = self.path(path);
        self.done(name, &[fd.into(), at, length])
    }

    pub(crate) fn mkdir(&mut self, path: &str) -> Result<(), u16> {
        self.on_path("path_create_directory", 3, path)
    }

    pub(crate) fn rmdir(&mut self, path: &str) -> Result<(), u16> {
        self.on_path("path_remove_directory", 3, path)
    }

    pub(crate) fn unlink(&mut self, path: &str) -> Result<(), u16> {
        self.on_path("path_unlink_file", 3, path)
    }

    pub(crate) fn rename_at(&mut self, from: (u32, &str), to: (u32, &str)) -> Result<(), u16> {
        self.forget();
        let (old, old_length) = self.path(from.1);
        let (new, new_length) = self.path(to.1);
        let arguments = [from.0.into(), old, old_length, to.0.into(), new, new_length];
        self.done("path_rename", &arguments)
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Result<(), u16> {
        self.rename_at((3, from), (3, to))
    }

    pub(crate) fn link_at(
        &mut self,
        from: (u32, &str),
        flags: u32,
        to: (u32, &str),
    ) -> Result<(), u16> {
        self.forget();
        let (old, old_length) = self.path(from.1);
        let (new, new_length) = self.path(to.1);
        let arguments =
            [from.0.into(), flags.into(), old, old_length, to.0.into(), new, new_length];
        self.done("path_link", &arguments)
    }

    pub(crate) fn link(&mut self, from: &str, to: &str) -> Result<(), u16> {
        self.link_at((3, from), NOFOLLOW, (3, to))
    }

    pub(crate) fn symlink(&mut self, target: &str, path: &str) -> Result<(), u16> {
        self.forget();
        let (target, target_length) = self.path(target);
        let (at, length) = self.path(path);
        self.done("path_symlink", &[target, target_length, 3, at, length])
    }

    pub(crate) fn readlink(&mut self, path: &str, room: usize) -> Result<Vec<u8>, u16> {
        self.forget();
        let (at, length) = self.path(path);
        let (buffer, out) = (self.room(room), self.room(4));
        self.done("path_readlink", &[3, at, length, buffer.into(), room as u64, out.into()])?;
        let used = u32_at(&self.peek(out, 4), 0);
        Ok(self.peek(buffer, used as usize))
    }

    pub(crate) fn stat(&mut self, path: &str, flags: u32) -> Result<FileStat, u16> {
        self.forget();
        let (at, length) = self.path(path);
        let out = self.room(64);
        self.done("path_filestat_get", &[3, flags.into(), at, length, out.into()])?;
        Ok(filestat(&self.peek(out, 64)))
    }

    pub(crate) fn set_times(
        &mut self,
        path: &str,
        flags: u32,
        times: (u64, u64),
        which: u32,
    ) -> Result<(), u16> {
        self.forget();
        let (at, length) = self.path(path);
        let arguments = [3, flags.into(), at, length, times.0, times.1, which.into()];
        self.done("path_filestat_set_times", &arguments)
    }

    pub(crate) fn fstat(&mut self, fd: u32) -> Result<FileStat, u16> {
        self.forget();
        let out = self.room(64);
        self.done("fd_filestat_get", &[fd.into(), out.into()])?;
        Ok(filestat(&self.peek(out, 64)))
    }

    pub(crate) fn fdstat(&mut self, fd: u32) -> Result<FdStat, u16> {
        self.forget();
        let out = self.room(24);
        self.done("fd_fdstat_get", &[fd.into(), out.into()])?;
        let bytes = self.peek(out, 24);
        Ok(FdStat {
            kind: bytes[0],
            flags: u16_at(&bytes, 2),
            base: u64_at(&bytes, 8),
            inheriting: u64_at(&bytes, 16),
        })
    }

    /// A list of buffers in the module's memory.
    fn buffers(&mut self, buffers: &[(u32, u32)]) -> (u64, u64) {
        let bytes: Vec<u8> = buffers
            .iter()
            .flat_map(|(at, length)| [at.to_le_bytes(), length.to_le_bytes()])
            .flatten()
            .collect();
        (self.put(&bytes).into(), buffers.len() as u64)
    }

    pub(crate) fn write(&mut self, fd: u32, bytes: &[u8]) -> Result<u32, u16> {
        self.forget();
        let at = self.put(bytes);
        let (list, count) = self.buffers(&[(at, u32::try_from(bytes.len()).expect("small"))]);
        let out = self.room(4);
        self.done("fd_write", &[fd.into(), list, count, out.into()])?;
        Ok(u32_at(&self.peek(out, 4), 0))
    }

    pub(crate) fn pwrite(&mut self, fd: u32, bytes: &[u8], offset: u64) -> Result<u32, u16> {
        self.forget();
        let at = self.put(bytes);
        let (list, count) = self.buffers(&[(at, u32::try_from(bytes.len()).expect("small"))]);
        let out = self.room(4);
        self.done("fd_pwrite", &[fd.into(), list, count, offset, out.into()])?;
        Ok(u32_at(&self.peek(out, 4), 0))
    }

    pub(crate) fn read(&mut self, fd: u32, length: usize) -> Result<Vec<u8>, u16> {
        self.forget();
        let at = self.room(length);
        let (list, count) = self.buffers(&[(at, u32::try_from(length).expect("small"))]);
        let out = self.room(4);
        self.done("fd_read", &[fd.into(), list, count, out.into()])?;
        let done = u32_at(&self.peek(out, 4), 0);
        Ok(self.peek(at, done as usize))
    }

    pub(crate) fn pread(&mut self, fd: u32, length: usize, offset: u64) -> Result<Vec<u8>, u16> {
        self.forget();
        let at = self.room(length);
        // Two buffers, so that both are seen to be filled.
        let half = u32::try_from(length / 2).expect("small");
        let rest = u32::try_from(length).expect("small") - half;
        let (list, count) = self.buffers(&[(at, half), (at + half, rest)]);
        let out = self.room(4);
        self.done("fd_pread", &[fd.into(), list, count, offset, out.into()])?;
        let done = u32_at(&self.peek(out, 4), 0);
        Ok(self.peek(at, done as usize))
    }

    pub(crate) fn seek(&mut self, fd: u32, offset: i64, whence: u32) -> Result<u64, u16> {
        self.forget();
        let out = self.room(8);
        let arguments = [fd.into(), offset.cast_unsigned(), whence.into(), out.into()];
        self.done("fd_seek", &arguments)?;
        Ok(u64_at(&self.peek(out, 8), 0))
    }

    pub(crate) fn tell(&mut self, fd: u32) -> Result<u64, u16> {
        self.forget();
        let out = self.room(8);
        self.done("fd_tell", &[fd.into(), out.into()])?;
        Ok(u64_at(&self.peek(out, 8), 0))
    }

    /// One `fd_readdir`: the whole entries in it, and how much of the buffer was used.
    pub(crate) fn readdir(
        &mut self,
        fd: u32,
        room: usize,
        cookie: u64,
    ) -> Result<(Vec<Entry>, usize), u16> {
        self.forget();
        let (buffer, out) = (self.room(room), self.room(4));
        let arguments = [fd.into(), buffer.into(), room as u64, cookie, out.into()];
        self.done("fd_readdir", &arguments)?;
        let used = u32_at(&self.peek(out, 4), 0) as usize;
        let bytes = self.peek(buffer, used);
        let mut entries = Vec::new();
        let mut rest = &bytes[..];
        while rest.len() >= 24 && rest.len() - 24 >= u32_at(rest, 16) as usize {
            let length = u32_at(rest, 16) as usize;
            entries.push(Entry {
                next: u64_at(rest, 0),
                inode: u64_at(rest, 8),
                kind: rest[20],
                name: rest[24..24 + length].to_vec(),
            });
            rest = &rest[24 + length..];
        }
        Ok((entries, used))
    }

    /// A whole directory, read with a buffer of this size.
    pub(crate) fn list(&mut self, fd: u32, room: usize) -> Vec<Entry> {
        let mut all = Vec::new();
        let mut cookie = 0;
        loop {
            let (entries, used) = self.readdir(fd, room, cookie).expect("the directory is listed");
            if let Some(last) = entries.last() {
                cookie = last.next;
            }
            all.extend(entries);
            if used < room {
                return all;
            }
        }
    }
}
