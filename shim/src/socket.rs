//! The agent's socket: connecting without ever blocking, and making sure who listens.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// What the kernel shows for a user of another user namespace (`/proc/sys/kernel/overflowuid`).
const OVERFLOW_UID: u32 = 65534;

/// Why there is no connection to an agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The socket, or its directory, is not there.
    #[error("there is no socket")]
    Absent,
    /// The socket is there, its listener is not.
    #[error("nobody listens")]
    Deserted,
    /// The listener does not accept as fast as others connect.
    #[error("too many others are connecting")]
    Full,
    /// Something else than a socket is at the path.
    #[error("{} is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// The socket, or a directory on its path, is closed to this user.
    #[error("user {uid} may not use the agent's socket {}", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
        /// This process's effective user id.
        uid: u32,
    },
    /// Connecting fails for another reason.
    #[error("cannot connect to {}: {error}", path.display())]
    Failed {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Whoever listens has no business to.
    #[error(
        "the agent's socket {} is served by user {uid}, who is neither root nor this step's user",
        path.display()
    )]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// Who listens.
        uid: u32,
    },
}

impl ConnectError {
    /// Whether a later attempt may go better.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Absent | Self::Deserted | Self::Full)
    }
}

/// Connects to the agent; the stream is blocking.
///
/// # Errors
///
/// When nobody listens, or not somebody whose program this process would become.
pub(crate) fn connect(path: &Path) -> Result<UnixStream, ConnectError> {
    let failed = |error: Errno| ConnectError::Failed { path: path.into(), error: error.into() };
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    // A blocking connect would wait without limit for a listener that does not accept.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(failed)?;
    rustix::net::connect(&socket, &address).map_err(|error| explain(path, error))?;
    let stream = UnixStream::from(socket);
    check_peer(path, &stream)?;
    stream
        .set_nonblocking(false)
        .map_err(|error| ConnectError::Failed { path: path.into(), error })?;
    Ok(stream)
}

fn explain(path: &Path, error: Errno) -> ConnectError {
    match error {
        Errno::NOENT => ConnectError::Absent,
        Errno::AGAIN => ConnectError::Full,
        // Linux says so of everything that is not a listening socket.
        Errno::CONNREFUSED => match std::fs::metadata(path) {
            Ok(found) if !found.file_type().is_socket() => ConnectError::NotASocket(path.into()),
            _ => ConnectError::Deserted,
        },
        Errno::ACCESS | Errno::PERM => {
            ConnectError::Denied { path: path.into(), uid: rustix::process::geteuid().as_raw() }
        }
        other => ConnectError::Failed { path: path.into(), error: other.into() },
    }
}

/// The agent's answer is executed, so it must come from someone who could do so anyway.
fn check_peer(path: &Path, stream: &UnixStream) -> Result<(), ConnectError> {
    let peer = getsockopt(stream, PeerCredentials)
        .map_err(|error| ConnectError::Failed { path: path.into(), error: error.into() })?;
    let own = rustix::process::geteuid().as_raw();
    let known = trusted(peer.uid(), peer.pid(), own, in_user_namespace);
    if known { Ok(()) } else { Err(ConnectError::Stranger { path: path.into(), uid: peer.uid() }) }
}

/// Root, or this user. A pod with a user namespace of its own (`hostUsers: false`) sees the node's
/// root as the overflow user, and as a process that is not in its own PID namespace.
fn trusted(uid: u32, pid: i32, own: u32, in_user_namespace: impl Fn() -> bool) -> bool {
    uid == 0 || uid == own || (uid == OVERFLOW_UID && pid == 0 && in_user_namespace())
}

/// Whether this process is in another user namespace than the node's first, which maps all ids.
fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !maps_everything(&map))
}

fn maps_everything(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn who_may_be_the_agent() {
        let inside = || true;
        let outside = || false;
        assert!(trusted(0, 1, 8737, outside));
        assert!(trusted(8737, 42, 8737, outside));
        assert!(trusted(OVERFLOW_UID, 0, 0, inside));
        assert!(!trusted(1000, 1, 8737, inside));
        assert!(!trusted(OVERFLOW_UID, 0, 0, outside));
        // A neighbour in the pod itself, whom the pod's namespace shows as a process.
        assert!(!trusted(OVERFLOW_UID, 17, 0, inside));
    }

    #[test]
    fn maps() {
        assert!(maps_everything("         0          0 4294967295\n"));
        assert!(!maps_everything("         0     165536      65536\n"));
        assert!(!maps_everything(""));
    }

    #[test]
    fn what_may_pass() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        assert!(matches!(connect(&path), Err(ConnectError::Absent)));
        assert!(matches!(connect(&path.join("deeper")), Err(ConnectError::Absent)));
        drop(UnixListener::bind(&path).expect("a socket"));
        assert!(matches!(connect(&path), Err(ConnectError::Deserted)));
        assert!(connect(&path).expect_err("deserted").may_pass());
    }

    #[test]
    fn what_will_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("a file");
        assert!(matches!(connect(&file), Err(ConnectError::NotASocket(_))));
        assert!(matches!(connect(folder.path()), Err(ConnectError::NotASocket(_))));
        let long = folder.path().join("x".repeat(108));
        assert!(matches!(connect(&long), Err(ConnectError::Failed { .. })));
        let datagram = folder.path().join("datagram");
        let _socket = std::os::unix::net::UnixDatagram::bind(&datagram).expect("a socket");
        assert!(matches!(connect(&datagram), Err(ConnectError::Failed { .. })));
        assert!(!connect(&datagram).expect_err("datagrams").may_pass());
    }

    #[test]
    fn a_listener_that_never_accepts_does_not_block() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a socket");
        rustix::net::listen(&listener, 1).expect("a short queue");
        let mut held = Vec::new();
        let error = loop {
            match connect(&path) {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
            assert!(held.len() < 100, "the queue never fills");
        };
        assert!(matches!(error, ConnectError::Full) && error.may_pass());
    }
}
