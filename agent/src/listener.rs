//! The unix sockets: bound so that no shim ever sees a gap, and taken only from a dead agent.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The longest path of a unix socket, without its closing NUL (`sockaddr_un`, unix(7)).
const MAX_PATH: usize = 107;

/// A socket cannot be bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// Another agent listens there.
    #[error("another agent listens on {0}: stop it, or choose another --socket")]
    Taken(PathBuf),
    /// Something else has the path.
    #[error("{0} exists and is not a socket: remove it, or choose another --socket")]
    NotASocket(PathBuf),
    /// The path is too long for a socket.
    #[error("{0} is longer than the {MAX_PATH} bytes that a socket's path may have")]
    TooLong(PathBuf),
    /// The system says no.
    #[error("cannot listen on {path}: {error}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// A bound socket, whose path is removed when it is dropped.
pub(crate) struct Listener {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Listener {
    /// Binds a socket with this mode, and creates its directory.
    pub(crate) async fn bind(path: &Path, mode: u32) -> Result<Self, ListenError> {
        let failed = |error| ListenError::Io { path: path.to_owned(), error };
        let aside = path.with_extension("new");
        if aside.as_os_str().len() > MAX_PATH {
            return Err(ListenError::TooLong(path.to_owned()));
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(ListenError::NotASocket(path.to_owned()));
            }
            Ok(_) if UnixStream::connect(path).await.is_ok() => {
                return Err(ListenError::Taken(path.to_owned()));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        // Bound aside and renamed over the old one: there is a socket at every moment.
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&aside).map_err(failed)?;
        fs::set_permissions(&aside, Permissions::from_mode(mode)).map_err(failed)?;
        let inode = fs::symlink_metadata(&aside).map_err(failed)?.ino();
        fs::rename(&aside, path).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), inode })
    }

    /// Waits for a connection.
    pub(crate) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The next agent may have put its own socket there already: that one stays.
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/agent.sock");
        let first = Listener::bind(&path, 0o666).await.unwrap();
        assert!(matches!(Listener::bind(&path, 0o666).await, Err(ListenError::Taken(_))));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
        drop(first);
        assert!(!path.exists());
        // What a killed agent leaves behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let second = Listener::bind(&path, 0o666).await.unwrap();
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_not_a_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "precious").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            let bound = Listener::bind(path, 0o666).await;
            assert!(matches!(bound, Err(ListenError::NotASocket(_))));
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        let long = directory.path().join("x".repeat(120));
        assert!(matches!(Listener::bind(&long, 0o666).await, Err(ListenError::TooLong(_))));
    }
}
