//! Who is at the other end of a connection, as far as a process without privileges can know.
//!
//! The agent sees neither the pods' processes nor their cgroups. But the socket that `accept`
//! returns belongs to the network namespace of the one who connected, and a pod is a network
//! namespace: its cookie tells pods apart, cannot be chosen, and is never used again while the
//! node runs. Pods on the host's network are one client together; a pod that may create network
//! namespaces can be several, within the limits on all of them.

use std::os::fd::{AsFd, AsRawFd};

/// One pod, or what stands for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client(u64);

impl Client {
    /// Whoever connected. Kernels before 5.14 do not say; then all are one.
    pub(crate) fn of(connection: impl AsFd) -> Self {
        Self(cookie(connection).unwrap_or_default())
    }

    /// A client for tests, of which there is no connection.
    #[cfg(test)]
    pub(crate) fn numbered(number: u64) -> Self {
        Self(number)
    }

    /// The operator, on the administration socket.
    pub(crate) const OPERATOR: Self = Self(u64::MAX);

    /// Whoever wants modules warm before a step asks.
    pub(crate) const PREWARMER: Self = Self(u64::MAX - 1);
}

/// `SO_NETNS_COOKIE` (socket(7)), which no safe function asks for yet.
#[expect(unsafe_code, reason = "neither rustix nor nix knows this option")]
fn cookie(connection: impl AsFd) -> Option<u64> {
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of_val(&cookie)).ok()?;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which is that long, and the
    // length it wrote to `length`; both outlive the call, and so does the borrowed descriptor.
    let result = unsafe {
        libc::getsockopt(
            connection.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(cookie)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_one_namespace_are_one() {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(cookie(&a).is_some());
        assert_eq!(Client::of(&a), Client::of(&b));
    }
}
