//! Whose the cache's directory is: its agent's alone, one agent at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::files::{FilesError, failed};

/// Creates a directory for this user alone, unless it is there.
pub(super) fn create_private(path: &Path) -> Result<(), FilesError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create", path))
}

/// Refuses what others could write: whoever can, runs native code in every step of the node.
pub(super) fn check_private(path: &Path) -> Result<(), FilesError> {
    let metadata = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    let exposed = |reason: String| FilesError::Exposed { path: path.to_owned(), reason };
    let me = rustix::process::geteuid().as_raw();
    if metadata.is_symlink() {
        return Err(exposed("is a symbolic link".to_owned()));
    }
    if metadata.uid() != me {
        return Err(exposed(format!("belongs to user {}, not to {me}", metadata.uid())));
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(exposed(format!("has mode {mode:04o}, which lets others write")));
    }
    Ok(())
}

/// Takes the directory for this process. The kernel gives it back when the process ends.
pub(super) fn lock(root: &Path) -> Result<File, FilesError> {
    let path = root.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(FilesError::Locked(root.to_owned())),
        Err(error) => Err(failed("lock", &path)(error.into())),
    }
}
