//! The module's descriptors: what each is, what may be done with it, and where it leads.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};

use super::Grant;
use super::errno::{Errno, Result};
use super::types::{FdFlags, Rights};
use warmstep_host::beneath::Parent;
use warmstep_host::narrow::{Narrow, Place};
use warmstep_host::view::Access;

/// The most descriptors a module has at once, far above any limit a pod has
/// (`RLIMIT_NOFILE` ends it first with `EMFILE`).
const MOST: usize = 1 << 20;

/// A descriptor of the host.
#[derive(Debug)]
enum Handle {
    /// One of the process's own three, which is never closed: messages still go to them.
    Stdio(BorrowedFd<'static>),
    Own(OwnedFd),
}

/// The rights that a module gave up with `fd_fdstat_set_rights`.
///
/// Only these are refused later. What a module did not ask for when it opened a descriptor is
/// another matter: programs ask for too little, and other runtimes let them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropped {
    /// On the descriptor itself.
    pub(crate) base: Rights,
    /// On what is opened beneath it.
    pub(crate) inheriting: Rights,
}

impl Dropped {
    const NOTHING: Self = Self { base: Rights::NONE, inheriting: Rights::NONE };
}

/// A descriptor of the module.
#[derive(Debug)]
pub(crate) struct Descriptor {
    handle: Handle,
    /// What it is.
    pub(crate) kind: FileType,
    /// What may be done with it, as the module asked for it.
    pub(crate) rights: Rights,
    /// What may be done with what is opened beneath it, as the module asked for it.
    pub(crate) inheriting: Rights,
    /// What the module gave up.
    pub(crate) dropped: Dropped,
    /// How it reads and writes, as the module set it.
    pub(crate) flags: FdFlags,
    /// Whether its grant refuses every change.
    pub(crate) read_only: bool,
    /// The names that it is narrowed to, if it is.
    pub(crate) narrow: Option<Arc<Narrow>>,
    /// The name under which it was granted, if it was.
    pub(crate) preopen: Option<Vec<u8>>,
}

impl Descriptor {
    /// One of the process's own three.
    pub(crate) fn stdio(handle: BorrowedFd<'static>, direction: Rights) -> Self {
        // A descriptor that cannot be asked is closed; the module sees that when it uses it.
        let kind =
            fstat(handle).map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode));
        let mut rights = direction.or(Rights::FD_FDSTAT_SET_FLAGS).or(Rights::FD_FILESTAT_GET);
        rights = rights.or(Rights::POLL_FD_READWRITE);
        match kind {
            FileType::RegularFile => {
                rights = rights.or(Rights::FD_SEEK).or(Rights::FD_TELL).or(Rights::FD_SYNC);
                rights = rights.or(Rights::FD_DATASYNC).or(Rights::FD_ADVISE);
            }
            FileType::Socket => {
                rights = rights.or(Rights::FD_READ).or(Rights::FD_WRITE);
                rights = rights.or(Rights::SOCK_SHUTDOWN).or(Rights::SOCK_ACCEPT);
            }
            _ => {}
        }
        // Only a file has an end to be appended at.
        let append = kind == FileType::RegularFile
            && fcntl_getfl(handle).is_ok_and(|flags| flags.contains(OFlags::APPEND));
        Self {
            handle: Handle::Stdio(handle),
            kind,
            rights,
            inheriting: Rights::NONE,
            dropped: Dropped::NOTHING,
            flags: if append { FdFlags::APPEND } else { FdFlags(0) },
            read_only: false,
            narrow: None,
            preopen: None,
        }
    }

    /// A granted directory.
    pub(crate) fn preopen(grant: Grant) -> Self {
        let Grant { directory, name, read_only, narrow } = grant;
        let (rights, inheriting) = (Rights::DIRECTORY, Rights::DIRECTORY.or(Rights::FILE));
        Self {
            handle: Handle::Own(directory),
            kind: FileType::Directory,
            rights: if read_only { rights.read_only() } else { rights },
            inheriting: if read_only { inheriting.read_only() } else { inheriting },
            dropped: Dropped::NOTHING,
            flags: FdFlags(0),
            read_only,
            narrow: narrow.map(Arc::new),
            preopen: Some(name),
        }
    }

    /// Something opened beneath a directory, with what its opener asked for and may have.
    pub(crate) fn opened(
        handle: OwnedFd,
        kind: FileType,
        (rights, inheriting): (Rights, Rights),
        flags: FdFlags,
        read_only: bool,
        directory: &Self,
    ) -> Self {
        // What was given up for what lies beneath is given up there too.
        let lost = directory.dropped.inheriting;
        Self {
            handle: Handle::Own(handle),
            kind,
            rights,
            inheriting,
            dropped: Dropped { base: lost, inheriting: lost },
            flags,
            read_only,
            narrow: None,
            preopen: None,
        }
    }

    /// A connection that was accepted.
    pub(crate) fn connection(handle: OwnedFd, flags: FdFlags) -> Self {
        let rights = Rights::FD_READ.or(Rights::FD_WRITE).or(Rights::FD_FDSTAT_SET_FLAGS);
        let rights = rights.or(Rights::FD_FILESTAT_GET).or(Rights::POLL_FD_READWRITE);
        Self {
            handle: Handle::Own(handle),
            kind: FileType::Socket,
            rights: rights.or(Rights::SOCK_SHUTDOWN),
            inheriting: Rights::NONE,
            dropped: Dropped::NOTHING,
            flags,
            read_only: false,
            narrow: None,
            preopen: None,
        }
    }

    /// Whether it is one of the process's own three, shared with whoever holds the other ends.
    pub(crate) fn is_stdio(&self) -> bool {
        matches!(self.handle, Handle::Stdio(_))
    }

    /// Refuses what the module gave up.
    pub(crate) fn require(&self, rights: Rights) -> Result<()> {
        if self.dropped.base.intersects(rights) { Err(Errno::NOTCAPABLE) } else { Ok(()) }
    }

    /// Refuses to read or to write where that was not asked for.
    pub(crate) fn require_asked(&self, rights: Rights) -> Result<()> {
        if self.rights.contains(rights) { Ok(()) } else { Err(Errno::NOTCAPABLE) }
    }

    /// Gives up all rights but these, none of which may be new.
    pub(crate) fn restrict(&mut self, base: Rights, inheriting: Rights) -> Result<()> {
        if !self.rights.contains(base) || !self.inheriting.contains(inheriting) {
            return Err(Errno::NOTCAPABLE);
        }
        let dropped = self.dropped;
        self.dropped = Dropped {
            base: dropped.base.or(self.rights.without(base)),
            inheriting: dropped.inheriting.or(self.inheriting.without(inheriting)),
        };
        (self.rights, self.inheriting) = (base, inheriting);
        Ok(())
    }

    /// Refuses to change it where its grant is read-only. A directory that is narrowed is the pod's:
    /// only its entries are the module's.
    pub(crate) fn require_writable(&self) -> Result<()> {
        if self.read_only || self.narrow.is_some() { Err(Errno::ROFS) } else { Ok(()) }
    }

    /// Where a path leads that is resolved in it.
    pub(crate) fn place<'a>(&'a self, path: &'a [u8]) -> Result<Place<'a>> {
        self.leads(path, false)
    }

    /// Where a path leads whose last name need not be there yet.
    pub(crate) fn place_to_create<'a>(&'a self, path: &'a [u8]) -> Result<Place<'a>> {
        self.leads(path, true)
    }

    fn leads<'a>(&'a self, path: &'a [u8], creates: bool) -> Result<Place<'a>> {
        match &self.narrow {
            Some(narrow) => Ok(narrow.place(self.as_fd(), path, creates)?),
            None => Ok(Place::Beneath {
                directory: Parent::Same(self.as_fd()),
                path,
                access: Access::of(self.read_only),
            }),
        }
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.handle {
            Handle::Stdio(handle) => *handle,
            Handle::Own(handle) => handle.as_fd(),
        }
    }
}

/// All the module's descriptors, by number.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: Vec<Option<Descriptor>>,
    /// No number below it is free.
    lowest: usize,
}

impl Table {
    /// Gives a descriptor the lowest number that is free.
    pub(crate) fn insert(&mut self, descriptor: Descriptor) -> Result<u32> {
        let free = self.entries[self.lowest..].iter().position(Option::is_none);
        let number = free.map_or(self.entries.len(), |free| self.lowest + free);
        if number >= MOST {
            return Err(Errno::from(rustix::io::Errno::MFILE));
        }
        if number == self.entries.len() {
            self.entries.push(None);
        }
        self.entries[number] = Some(descriptor);
        self.lowest = number + 1;
        u32::try_from(number).map_err(|_| Errno::OVERFLOW)
    }

    /// The descriptor of a number.
    pub(crate) fn get(&self, number: u32) -> Result<&Descriptor> {
        self.entries.get(number as usize).and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    /// The descriptor of a number, to change.
    pub(crate) fn get_mut(&mut self, number: u32) -> Result<&mut Descriptor> {
        self.entries.get_mut(number as usize).and_then(Option::as_mut).ok_or(Errno::BADF)
    }

    /// The descriptor of a number, unless the module gave up these rights.
    pub(crate) fn with(&self, number: u32, rights: Rights) -> Result<&Descriptor> {
        let descriptor = self.get(number)?;
        descriptor.require(rights)?;
        Ok(descriptor)
    }

    /// The directory of a number, unless the module gave up these rights.
    pub(crate) fn directory(&self, number: u32, rights: Rights) -> Result<&Descriptor> {
        let descriptor = self.get(number)?;
        if descriptor.kind != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        descriptor.require(rights)?;
        Ok(descriptor)
    }

    /// The directory of a number, if its grant lets it be changed and the module did not give up these rights.
    ///
    /// A read-only grant is named as such first: it is the clearer answer.
    pub(crate) fn writable(&self, number: u32, rights: Rights) -> Result<&Descriptor> {
        let descriptor = self.directory(number, Rights::NONE)?;
        if descriptor.read_only {
            return Err(Errno::ROFS);
        }
        descriptor.require(rights)?;
        Ok(descriptor)
    }

    /// Takes a descriptor out; its number is free afterwards.
    pub(crate) fn remove(&mut self, number: u32) -> Result<Descriptor> {
        let index = number as usize;
        let removed = self.entries.get_mut(index).and_then(Option::take).ok_or(Errno::BADF)?;
        self.lowest = self.lowest.min(index);
        Ok(removed)
    }

    /// Moves a descriptor to a number that is in use, closing what was there.
    pub(crate) fn renumber(&mut self, from: u32, to: u32) -> Result<()> {
        self.get(to)?;
        self.get(from)?;
        if from != to {
            let moved = self.remove(from)?;
            *self.get_mut(to)? = moved;
        }
        Ok(())
    }
}
