//! The module's file system: its grants, each path resolved beneath one of them by the kernel.
//!
//! wasmer-wasix walks paths itself, one name at a time, and remembers what it found. That is no more
//! than a picture: whatever it comes to, this file system resolves again from the granted
//! directory's descriptor, with `openat2(2)`, for every single operation. A directory that was
//! exchanged for a link since then leads nowhere.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Statx, StatxFlags, statx};
use rustix::io::Errno;
use virtual_fs::{
    DirEntry, FileOpener, FileSystem, FsError, Metadata, OpenOptions, OpenOptionsConfig, ReadDir,
    Result, VirtualFile,
};
use warmstep_host::beneath::Parent;
use warmstep_host::grants::Grant;
use warmstep_host::narrow::{Entry, Place};
use warmstep_host::view::Access;

use crate::file::GrantedFile;
use crate::place::{Places, Where};

/// What new files and directories may be at most; the process's umask takes from it.
const NEW_FILE: Mode = Mode::from_raw_mode(0o666);
const NEW_DIRECTORY: Mode = Mode::from_raw_mode(0o777);

/// The grants of a step, as one file system.
#[derive(Clone, Debug)]
pub(crate) struct Granted(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    grants: Vec<Grant>,
    places: Places,
}

impl Granted {
    /// The file system of these grants.
    pub(crate) fn new(grants: Vec<Grant>) -> Self {
        let places = Places::new(grants.iter().map(|grant| grant.name.as_slice()));
        Self(Arc::new(Inner { grants, places }))
    }

    /// Where a path leads in its grant, which may be narrowed to some names.
    fn find<'a>(&'a self, path: &'a Path, creates: bool) -> Result<Place<'a>> {
        let (grant, path) = match self.0.places.find(path) {
            Where::Beneath(number, path) => (&self.0.grants[number], path.as_os_str().as_bytes()),
            Where::Above => return Err(FsError::PermissionDenied),
            Where::Nowhere => return Err(FsError::EntryNotFound),
        };
        let directory = grant.directory.as_fd();
        match &grant.narrow {
            Some(narrow) => narrow.place(directory, path, creates).map_err(failed),
            None => {
                let access = Access::of(grant.read_only);
                Ok(Place::Beneath { directory: Parent::Same(directory), path, access })
            }
        }
    }

    /// The same for a name that is to be made, moved or removed.
    fn find_name<'a>(&'a self, path: &'a Path, creates: bool) -> Result<Place<'a>> {
        if self.0.places.is_above(path) {
            return Err(FsError::PermissionDenied);
        }
        self.find(path, creates)?.changeable().map_err(failed)
    }

    fn stat(&self, path: &Path, flags: OFlags) -> Result<Metadata> {
        let found = self.find(path, false).and_then(|place| stat(&place, flags));
        match found {
            Err(_) if self.0.places.is_above(path) => Ok(above()),
            found => found,
        }
    }

    /// Removes a name.
    pub(crate) fn remove(&self, path: &Path, flags: AtFlags) -> Result<()> {
        let place = self.find_name(path, false)?;
        let (parent, name) = parent(&place)?;
        rustix::fs::unlinkat(parent, name, flags).map_err(failed)
    }

    /// The names that a narrowed directory shows, if that is all of them.
    fn shown(&self, path: &Path) -> Option<&[Entry]> {
        let Where::Beneath(number, rest) = self.0.places.find(path) else { return None };
        let narrow = self.0.grants[number].narrow.as_ref()?;
        (rest == Path::new(".") && narrow.others.is_none()).then_some(&narrow.entries)
    }
}

fn open(place: &Place<'_>, flags: OFlags) -> Result<OwnedFd> {
    place.open(flags, NEW_FILE).map_err(failed)
}

fn stat(place: &Place<'_>, flags: OFlags) -> Result<Metadata> {
    let handle = open(place, flags | OFlags::PATH)?;
    let found = statx(handle, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
    Ok(metadata(&found.map_err(failed)?))
}

/// The directory of a place's name, and the name.
fn parent<'p>(place: &'p Place<'_>) -> Result<(Parent<'p>, &'p [u8])> {
    place.parent(Errno::PERM).map_err(failed)
}

impl FileSystem for Granted {
    fn readlink(&self, path: &Path) -> Result<PathBuf> {
        let link = open(&self.find(path, false)?, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = rustix::fs::readlinkat(link, "", Vec::new()).map_err(failed)?;
        Ok(std::ffi::OsString::from_vec(target.into_bytes()).into())
    }

    fn read_dir(&self, path: &Path) -> Result<ReadDir> {
        let grants = self.0.places.names_in(path);
        let found = match self.shown(path) {
            Some(names) => Ok(shown(names, path)),
            None => self.find(path, false).and_then(|place| entries(&place, path)),
        };
        let mut entries: Vec<DirEntry> = match found {
            Ok(entries) => entries,
            Err(_) if self.0.places.is_above(path) => Vec::new(),
            Err(error) => return Err(error),
        };
        entries.retain(|entry| !grants.contains(entry.file_name().as_os_str()));
        entries.extend(grants.into_iter().map(|name| {
            let path = path.join(name);
            let metadata = self.metadata(&path);
            DirEntry { path, metadata }
        }));
        Ok(ReadDir::new(entries))
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        let place = self.find_name(path, true)?;
        let (parent, name) = parent(&place)?;
        rustix::fs::mkdirat(parent, name, NEW_DIRECTORY).map_err(failed)
    }

    /// A link that begins at the root could not be followed by whoever reads the directory later.
    ///
    /// Where paths are granted by themselves, Argo reads outputs that lie among other things of the
    /// pod: there, no link points upwards, and none takes the place of an output.
    fn create_symlink(&self, source: &Path, target: &Path) -> Result<()> {
        let place = self.find_name(target, true)?;
        let narrowed = self.0.grants.iter().any(|grant| grant.narrow.is_some());
        let upwards = || source.components().any(|name| name == Component::ParentDir);
        let misleads = source.is_absolute() || (narrowed && upwards());
        if misleads || matches!(place, Place::Entry { .. }) {
            return Err(FsError::PermissionDenied);
        }
        let (parent, name) = parent(&place)?;
        rustix::fs::symlinkat(source, parent, name).map_err(failed)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.remove(path, AtFlags::REMOVEDIR)
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (source, target) = (self.find_name(from, false)?, self.find_name(to, true)?);
            let (from, old) = parent(&source)?;
            let (to, new) = parent(&target)?;
            target.refuse_link(from.as_fd(), old).map_err(failed)?;
            rustix::fs::renameat(from, old, to, new).map_err(failed)
        })
    }

    fn metadata(&self, path: &Path) -> Result<Metadata> {
        self.stat(path, OFlags::empty())
    }

    fn symlink_metadata(&self, path: &Path) -> Result<Metadata> {
        self.stat(path, OFlags::NOFOLLOW)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.remove(path, AtFlags::empty())
    }

    fn new_open_options(&self) -> OpenOptions<'_> {
        OpenOptions::new(self)
    }
}

impl FileOpener for Granted {
    fn open(
        &self,
        path: &Path,
        how: &OpenOptionsConfig,
    ) -> Result<Box<dyn VirtualFile + Send + Sync + 'static>> {
        let mut place = self.find(path, how.create || how.create_new)?;
        if how.would_mutate() {
            place = place.changeable().map_err(failed)?;
        }
        let file = open(&place, flags(how))?;
        let found = statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE).map_err(failed)?;
        // FIFOs, sockets and devices lead out of the grant, and can block for ever.
        match FileType::from_raw_mode(found.stx_mode.into()) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(FsError::NotAFile),
            _ => return Err(FsError::PermissionDenied),
        }
        Ok(Box::new(GrantedFile::new(self.clone(), path, file)))
    }
}

/// The kernel's flags. `O_NONBLOCK`, so that a FIFO or a device cannot make the opening hang.
fn flags(how: &OpenOptionsConfig) -> OFlags {
    let writes = how.write || how.append || how.truncate || how.create || how.create_new;
    let mut flags = match (how.read, writes) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    };
    flags |= OFlags::NONBLOCK;
    flags.set(OFlags::CREATE, how.create || how.create_new);
    flags.set(OFlags::EXCL, how.create_new);
    flags.set(OFlags::TRUNC, how.truncate);
    flags.set(OFlags::APPEND, how.append);
    flags
}

/// What is there of the names that a directory is narrowed to.
fn shown(names: &[Entry], path: &Path) -> Vec<DirEntry> {
    let entry = |entry: &Entry| {
        let (directory, there) = &entry.place;
        let found =
            statx(directory, there.as_slice(), AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
        let metadata = Ok(metadata(&found.ok()?));
        Some(DirEntry { path: path.join(OsStr::from_bytes(&entry.name)), metadata })
    };
    names.iter().filter_map(entry).collect()
}

/// What is in a directory.
fn entries(place: &Place<'_>, path: &Path) -> Result<Vec<DirEntry>> {
    let directory = open(place, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut entries = Vec::new();
    for entry in Dir::read_from(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let found = statx(&directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
        let metadata = found.map(|found| metadata(&found)).map_err(failed);
        entries.push(DirEntry { path: path.join(OsStr::from_bytes(name.to_bytes())), metadata });
    }
    Ok(entries)
}

/// A directory that is there only because a grant is further down.
fn above() -> Metadata {
    Metadata { ft: virtual_fs::FileType::new_dir(), ..Metadata::default() }
}

/// What wasmer-wasix wants to know of a file; its times are in nanoseconds.
pub(crate) fn metadata(stat: &Statx) -> Metadata {
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    let time = |time: &rustix::fs::StatxTimestamp| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.into())
    };
    Metadata {
        ft: virtual_fs::FileType {
            dir: kind == FileType::Directory,
            file: kind == FileType::RegularFile,
            symlink: kind == FileType::Symlink,
            char_device: kind == FileType::CharacterDevice,
            block_device: kind == FileType::BlockDevice,
            socket: kind == FileType::Socket,
            fifo: kind == FileType::Fifo,
        },
        accessed: time(&stat.stx_atime),
        created: time(&stat.stx_ctime),
        modified: time(&stat.stx_mtime),
        len: stat.stx_size,
    }
}

/// What wasmer-wasix understands of an error of the kernel.
pub(crate) fn failed(error: Errno) -> FsError {
    match error {
        Errno::NOENT => FsError::EntryNotFound,
        Errno::EXIST => FsError::AlreadyExists,
        Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY => FsError::PermissionDenied,
        Errno::NOTDIR => FsError::BaseNotDirectory,
        Errno::ISDIR => FsError::NotAFile,
        Errno::NOTEMPTY => FsError::DirectoryNotEmpty,
        Errno::INVAL | Errno::LOOP | Errno::NAMETOOLONG => FsError::InvalidInput,
        // It knows no other error that says that there is no room.
        Errno::NOSPC | Errno::DQUOT => FsError::WriteZero,
        Errno::NXIO | Errno::NODEV => FsError::NoDevice,
        Errno::XDEV => FsError::Unsupported,
        Errno::INTR => FsError::Interrupted,
        Errno::AGAIN => FsError::WouldBlock,
        _ => FsError::IOError,
    }
}

#[cfg(test)]
#[path = "filesystem_tests.rs"]
mod tests;
