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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// C9: a directory that others could change is not used, and it is said why.
    #[test]
    fn a_cache_that_others_could_change_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("cache");
        create_private(&root).unwrap();
        check_private(&root).unwrap();
        fs::set_permissions(&root, PermissionsExt::from_mode(0o777)).unwrap();
        let error = check_private(&root).unwrap_err().to_string();
        assert!(error.contains("has mode 0777, which lets others write"), "{error}");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&root, &link).unwrap();
        let error = check_private(&link).unwrap_err().to_string();
        assert!(error.contains("is a symbolic link"), "{error}");
        if rustix::process::geteuid().is_root() {
            fs::set_permissions(&root, PermissionsExt::from_mode(0o700)).unwrap();
            std::os::unix::fs::chown(&root, Some(4242), None).unwrap();
            let error = check_private(&root).unwrap_err().to_string();
            assert!(error.contains("belongs to user 4242"), "{error}");
        }
    }
}
