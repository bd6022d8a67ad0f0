//! A directory of which the module sees some names only, and where each of its paths leads.
//!
//! An entry is opened by its name alone and never followed where it is a symbolic link; what lies
//! below it resolves beneath it. So whatever a module puts in an entry's place, it stays there.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::beneath::{self, Parent};
use crate::view::Access;

/// The names that a directory is narrowed to.
#[derive(Debug)]
pub struct Narrow {
    /// Each entry, once.
    pub entries: Vec<Entry>,
    /// How other names are seen; not at all without it.
    pub others: Option<Access>,
}

/// One name in a directory that is narrowed.
#[derive(Debug)]
pub struct Entry {
    /// Its name for the module.
    pub name: Vec<u8>,
    /// What may be done with it.
    pub access: Access,
    /// The directory it is in, and its name there.
    pub place: (OwnedFd, Vec<u8>),
}

impl Narrow {
    /// Whether nothing of it can be changed.
    pub fn is_read_only(&self) -> bool {
        let changes = |access| access == Access::Write;
        !self.others.is_some_and(changes) && !self.entries.iter().any(|e| changes(e.access))
    }

    /// Where a path leads that is resolved in it. A name that is not there cannot be created either.
    pub fn place<'a>(
        &'a self,
        itself: BorrowedFd<'a>,
        path: &'a [u8],
        creates: bool,
    ) -> Result<Place<'a>, Errno> {
        let Some((name, below)) = first(path)? else { return Ok(Place::Itself(itself)) };
        let Some(entry) = self.entries.iter().find(|entry| entry.name == name) else {
            return match self.others {
                Some(access) => {
                    let directory = Parent::Same(itself);
                    Ok(Place::Beneath { directory, path, access })
                }
                None if creates && below.iter().all(|byte| *byte == b'/') => Err(Errno::ACCESS),
                None => Err(Errno::NOENT),
            };
        };
        let (directory, name) = (entry.place.0.as_fd(), &entry.place.1[..]);
        let slashes = below.iter().take_while(|byte| **byte == b'/').count();
        if slashes == below.len() {
            let name = if slashes == 0 { name.into() } else { [name, b"/"].concat().into() };
            return Ok(Place::Entry { directory, name, access: entry.access });
        }
        let opened = match open_directory(directory, name) {
            // An output is a directory as soon as something is made in it: Argo says of none which
            // it is, and a module that only writes files would have nobody to make it.
            Err(Errno::NOENT) if creates && entry.access == Access::Write => {
                rustix::fs::mkdirat(directory, name, Mode::from_bits_truncate(0o777))?;
                open_directory(directory, name)?
            }
            opened => opened?,
        };
        let directory = Parent::Below(opened);
        Ok(Place::Beneath { directory, path: &below[slashes..], access: entry.access })
    }
}

/// A name and the rest of its path.
type FirstName<'p> = (&'p [u8], &'p [u8]);

/// Splits a path behind its first name; a path to the directory itself has none.
fn first(path: &[u8]) -> Result<Option<FirstName<'_>>, Errno> {
    match path {
        [] => return Err(Errno::NOENT),
        [b'/', ..] => return Err(Errno::PERM),
        _ => {}
    }
    let mut rest = path;
    loop {
        let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        match rest.split_at(end) {
            (b"" | b".", below) => match below.iter().position(|byte| *byte != b'/') {
                Some(next) => rest = &below[next..],
                None => return Ok(None),
            },
            (b"..", _) => return Err(Errno::PERM),
            split => return Ok(Some(split)),
        }
    }
}

/// Where a path of the module leads.
#[derive(Debug)]
pub enum Place<'a> {
    /// To the narrowed directory itself.
    Itself(BorrowedFd<'a>),
    /// To one of its entries: a name in a directory, with a slash where the path had one.
    Entry {
        /// The directory it is in.
        directory: BorrowedFd<'a>,
        /// Its name there.
        name: Cow<'a, [u8]>,
        /// What may be done with it.
        access: Access,
    },
    /// Beneath a directory, wherever that may be.
    Beneath {
        /// The directory.
        directory: Parent<'a>,
        /// The path that is resolved beneath it.
        path: &'a [u8],
        /// What may be done there.
        access: Access,
    },
}

impl Place<'_> {
    /// Whether every change is refused.
    pub fn is_read_only(&self) -> bool {
        match self {
            Self::Itself(_) => true,
            Self::Entry { access, .. } | Self::Beneath { access, .. } => *access == Access::Read,
        }
    }

    /// Refuses where nothing may be changed. Of a narrowed directory itself, the calls tell.
    pub fn changeable(self) -> Result<Self, Errno> {
        match self {
            Self::Itself(_) => Ok(self),
            _ if self.is_read_only() => Err(Errno::ROFS),
            _ => Ok(self),
        }
    }

    /// Opens it. An entry that is a symbolic link is `ELOOP`, unless the link itself is asked for.
    pub fn open(&self, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        match self {
            Self::Itself(directory) => {
                Ok(rustix::fs::openat(directory, c".", flags | OFlags::CLOEXEC, mode)?)
            }
            Self::Entry { directory, name, .. } => open_entry(*directory, name, flags, mode),
            Self::Beneath { directory, path, .. } => {
                Ok(beneath::open(directory.as_fd(), path, flags, mode)?)
            }
        }
    }

    /// The directory of its last name, and that name with the slashes after it, as
    /// [`beneath::parent`]; `itself` is the answer where there is no name.
    pub fn parent(&self, itself: Errno) -> Result<(Parent<'_>, &[u8]), Errno> {
        match self {
            Self::Itself(_) => Err(itself),
            Self::Entry { directory, name, .. } => Ok((Parent::Same(*directory), name)),
            Self::Beneath { directory, path, .. } => Ok(beneath::parent(directory.as_fd(), path)?),
        }
    }

    /// Refuses to put a symbolic link in an entry's place: Argo follows one when it saves outputs.
    pub fn refuse_link(&self, directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        let Self::Entry { .. } = self else { return Ok(()) };
        let stat = rustix::fs::statat(directory, unslashed(name), AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Err(Errno::PERM),
            _ => Ok(()),
        }
    }
}

/// Opens an entry to resolve paths beneath it.
fn open_directory(directory: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

fn open_entry(
    directory: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let plain = unslashed(name);
    let mut how = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    if plain.len() < name.len() {
        if flags.contains(OFlags::CREATE) {
            return Err(Errno::ISDIR);
        }
        // The kernel would follow a link that a slash comes after.
        how |= OFlags::DIRECTORY;
    }
    let opened = loop {
        match rustix::fs::openat(directory, plain, how, mode) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let wants_target = flags.contains(OFlags::PATH) && !flags.contains(OFlags::NOFOLLOW);
    if wants_target && is_link(&opened)? { Err(Errno::LOOP) } else { Ok(opened) }
}

fn is_link(opened: &OwnedFd) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(opened)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

fn unslashed(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    &name[..end]
}
