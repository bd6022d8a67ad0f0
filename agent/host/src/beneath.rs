//! Paths of the module, resolved beneath a directory that it was granted.
//!
//! The kernel does it: `openat2(2)` with `RESOLVE_BENEATH` refuses absolute paths, symbolic links
//! that leave, and `..` above the directory, without a race; `RESOLVE_NO_MAGICLINKS` refuses the
//! links of `/proc` that lead anywhere. Where a kernel or a container's seccomp profile lacks the
//! call, cap-std walks the path one name at a time to the same effect.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// How often a resolution is tried again that the kernel could not finish because a name on the
/// way was renamed meanwhile (`EAGAIN`).
const TRIES: usize = 64;

/// Set once the kernel has said that it has no `openat2`.
static WITHOUT_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Opens `path` beneath `directory`.
///
/// # Errors
///
/// As `openat2(2)`, but leaving the directory is `EPERM`.
pub fn open(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    if WITHOUT_OPENAT2.load(Ordering::Relaxed) {
        return walk::open(directory, path, flags, mode);
    }
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // openat2 refuses a mode where nothing is created, and O_NOCTTY beside O_PATH.
    let mode = if flags.contains(OFlags::CREATE) { mode } else { Mode::empty() };
    let flags = if flags.contains(OFlags::PATH) { flags - OFlags::NOCTTY } else { flags };
    for _ in 0..TRIES {
        match openat2(directory, path, flags, mode, resolve) {
            Err(Errno::AGAIN) if !flags.contains(OFlags::NONBLOCK) => {}
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::XDEV) => return Err(Errno::PERM),
            Err(Errno::NOSYS) => {
                WITHOUT_OPENAT2.store(true, Ordering::Relaxed);
                return walk::open(directory, path, flags, mode);
            }
            // Some seccomp profiles answer so instead of ENOSYS; if it was meant, it stays so.
            Err(Errno::PERM) => return walk::open(directory, path, flags, mode),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// As [`open`], but one name at a time, as where there is no `openat2`.
///
/// # Errors
///
/// As [`open`]; where several things are wrong with a path, it may name another of them.
pub fn open_by_walking(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    walk::open(directory, path, flags | OFlags::CLOEXEC, mode)
}

/// The directory that holds the last name of a path.
#[derive(Debug)]
pub enum Parent<'d> {
    /// The path is one name.
    Same(BorrowedFd<'d>),
    /// The path leads further down.
    Below(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Same(directory) => *directory,
            Self::Below(directory) => directory.as_fd(),
        }
    }
}

/// Opens the directory of a path's last name, and gives that name with the slashes after it.
///
/// It is meant for the calls that create, remove or rename a name: the kernel follows neither a
/// symbolic link nor `..` there, whatever slashes come after.
///
/// # Errors
///
/// As [`open`].
pub fn parent<'d, 'p>(
    directory: BorrowedFd<'d>,
    path: &'p [u8],
) -> Result<(Parent<'d>, &'p [u8]), Errno> {
    let (above, name) = split(path);
    if name.is_empty() {
        return Err(if path.is_empty() { Errno::NOENT } else { Errno::PERM });
    }
    if above.is_empty() {
        return Ok((Parent::Same(directory), name));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    open(directory, above, flags, Mode::empty()).map(|above| (Parent::Below(above), name))
}

/// Splits a path before its last name. The name keeps its slashes; it is empty only for `/`s.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    if end == 0 { (path, &[]) } else { path.split_at(start) }
}

/// The same without `openat2`.
mod walk {
    use std::ffi::OsStr;
    use std::os::fd::{BorrowedFd, OwnedFd};
    use std::os::unix::ffi::OsStrExt;

    use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
    use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;

    /// What cap-std has options for. The others go through as they are, those for creating too: its
    /// options create only what is opened for writing.
    const KNOWN: OFlags = OFlags::RWMODE.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

    pub(super) fn open(
        directory: BorrowedFd<'_>,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        let slash = path.ends_with(b"/");
        let follows = slash || !flags.contains(OFlags::NOFOLLOW);
        if slash && flags.contains(OFlags::CREATE) {
            return Err(Errno::ISDIR);
        }
        if (slash || flags.contains(OFlags::DIRECTORY)) && follows && !flags.contains(OFlags::PATH)
        {
            // cap-std finds a directory, also over a link, only with a slash and for `O_PATH`.
            let path = [path, b"/"].concat();
            let found = open_with(directory, &path, OFlags::PATH, mode)?;
            return rustix::fs::openat(found, ".", flags - OFlags::NOFOLLOW, Mode::empty());
        }
        open_with(directory, path, flags, mode)
    }

    fn open_with(
        directory: BorrowedFd<'_>,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        let directory = Dir::reopen_dir(&directory).map_err(|error| errno(&error))?;
        let access = flags & OFlags::RWMODE;
        let follow =
            if flags.contains(OFlags::NOFOLLOW) { FollowSymlinks::No } else { FollowSymlinks::Yes };
        let mut options = OpenOptions::new();
        options
            .read(access != OFlags::WRONLY)
            .write(access != OFlags::RDONLY)
            .follow(follow)
            .custom_flags((flags - KNOWN).bits().cast_signed())
            .mode(mode.bits());
        let path = OsStr::from_bytes(path);
        directory.open_with(path, &options).map(OwnedFd::from).map_err(|error| errno(&error))
    }

    /// cap-std says that a path leaves its directory with an error of its own kind.
    fn errno(error: &std::io::Error) -> Errno {
        match Errno::from_io_error(error) {
            Some(errno) => errno,
            None if error.kind() == std::io::ErrorKind::PermissionDenied => Errno::PERM,
            None => Errno::INVAL,
        }
    }
}

#[cfg(test)]
#[path = "beneath_tests.rs"]
mod tests;
