//! What can go wrong with a registry, and what that means for the step that asked.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Digest;
use crate::guard::Refusal;
use crate::manifest::ManifestError;
use crate::wasm::NotWasm;

/// A reference that could not be resolved or pulled. Prints as one line: the reference, what is
/// wrong, what to do.
#[derive(Debug)]
pub struct RegistryError {
    pub(crate) reference: String,
    pub(crate) fault: Fault,
    pub(crate) mirrors_failed: usize,
}

/// What an error means to the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There is no such module: exit code 127.
    NotFound,
    /// The module, or access to it, is refused, and will be until somebody changes something:
    /// exit code 126.
    Refused,
    /// It may work later: exit code 125.
    Temporary {
        /// How long the registry asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The node's configuration or disk is at fault: exit code 125.
    Internal,
}

/// What went wrong. `host` is always `host[:port]`, and may be that of a mirror.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// 404 for the manifest.
    #[error(
        "{host} has no such module; check the repository and the tag, and whether it is private"
    )]
    NoManifest {
        /// Who was asked.
        host: String,
    },
    /// 404 for the layer of a manifest that is there.
    #[error("{host} has the manifest but not its layer {layer}; push the module again")]
    NoLayer {
        /// Who was asked.
        host: String,
        /// The layer's digest.
        layer: Digest,
    },
    /// The registry's name is unknown to the name servers.
    #[error("there is no host named {host}; check the reference and the node's name servers")]
    NoHost {
        /// The name.
        host: String,
    },
    /// 401 or 403.
    #[error("{host} denied access ({status}): {credentials}")]
    Denied {
        /// Who denied it.
        host: String,
        /// The HTTP status.
        status: u16,
        /// Which credentials there were and where they came from.
        credentials: String,
    },
    /// The Docker configuration, or a helper it names, does not work.
    #[error("credentials for {host} from {}: {reason}", path.display())]
    Credentials {
        /// The registry they are for.
        host: String,
        /// The configuration file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Somewhere no request may go.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// A manifest over the limit.
    #[error("{host} sent a manifest of more than {limit} bytes (limits.manifest_bytes)")]
    ManifestTooLarge {
        /// Who sent it.
        host: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A module over the limit.
    #[error("the module has {size} bytes, more than the {limit} allowed (limits.module_bytes)")]
    ModuleTooLarge {
        /// Its size in bytes, as its manifest says.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A manifest or a layer that is not the one asked for.
    #[error("{host} sent other bytes than asked for: expected {expected}, got {actual}")]
    Digest {
        /// Who sent it.
        host: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// A body that is longer or shorter than its descriptor says.
    #[error("{host} sent {actual} where the manifest promises {expected} bytes")]
    Length {
        /// Who sent it.
        host: String,
        /// The promised bytes.
        expected: u64,
        /// What came, such as "more".
        actual: String,
    },
    /// A body with a `Content-Encoding`, which was not asked for.
    #[error("{host} compressed its answer ({encoding}) unasked; turn that off there")]
    Encoded {
        /// Who sent it.
        host: String,
        /// The encoding.
        encoding: String,
    },
    /// A manifest that is none of a module.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A layer that is no core WebAssembly module.
    #[error("the layer {0}")]
    NotWasm(#[from] NotWasm),
    /// No connection.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// Who was to be reached.
        host: String,
        /// Why not.
        reason: String,
    },
    /// A connection, but no TLS.
    #[error("no TLS with {host}: {reason}")]
    Tls {
        /// Who was to be reached.
        host: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A status that fits no other fault.
    #[error("{host} answered {status}{}", if message.is_empty() { String::new() } else { format!(": {message}") })]
    Status {
        /// Who answered.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What the answer said.
        message: String,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// An answer that breaks the protocol.
    #[error("{host} broke the protocol: {reason}")]
    Protocol {
        /// Who answered.
        host: String,
        /// How.
        reason: String,
    },
    /// A connection that ended too early.
    #[error("the connection to {host} was cut: {reason}")]
    Cut {
        /// Who was connected.
        host: String,
        /// How.
        reason: String,
    },
    /// Silence.
    #[error("{host} was silent for {} (limits.idle)", humantime::format_duration(*idle))]
    Stalled {
        /// Who was silent.
        host: String,
        /// For how long.
        idle: Duration,
    },
    /// The time is up.
    #[error("not {what} within {} (limits.{limit})", humantime::format_duration(*after))]
    Deadline {
        /// What was not done.
        what: &'static str,
        /// The name of the limit.
        limit: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The place that the module is written to failed.
    #[error("cannot write the module: {0}")]
    Sink(std::io::Error),
}

impl RegistryError {
    /// What this means to the one who asked.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.fault.kind()
    }

    /// What went wrong.
    #[must_use]
    pub const fn fault(&self) -> &Fault {
        &self.fault
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reference, self.fault)?;
        match self.mirrors_failed {
            0 => Ok(()),
            1 => write!(f, " (its mirror failed before, see the agent's log)"),
            n => write!(f, " (its {n} mirrors failed before, see the agent's log)"),
        }
    }
}

impl std::error::Error for RegistryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // Display has already said it; a chain would say it twice.
        None
    }
}

impl Fault {
    /// What this means to the one who asked.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let later = Kind::Temporary { retry_after: None };
        match self {
            Self::NoManifest { .. } | Self::NoLayer { .. } | Self::NoHost { .. } => Kind::NotFound,
            Self::Denied { .. }
            | Self::Refusal(_)
            | Self::ManifestTooLarge { .. }
            | Self::ModuleTooLarge { .. }
            | Self::Digest { .. }
            | Self::Length { .. }
            | Self::Encoded { .. }
            | Self::Manifest(_)
            | Self::NotWasm(_) => Kind::Refused,
            Self::Status { status, retry_after, .. } if is_temporary(*status) => {
                Kind::Temporary { retry_after: *retry_after }
            }
            Self::Unreachable { .. }
            | Self::Cut { .. }
            | Self::Stalled { .. }
            | Self::Deadline { .. } => later,
            Self::Credentials { .. }
            | Self::Tls { .. }
            | Self::Status { .. }
            | Self::Protocol { .. }
            | Self::Sink(_) => Kind::Internal,
        }
    }
}

/// The statuses after which the same request may succeed.
const fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_decide_exit_codes() {
        let host = || "r.example".to_owned();
        let status = |status| Fault::Status {
            host: host(),
            status,
            message: String::new(),
            retry_after: Some(Duration::from_secs(7)),
        };
        assert_eq!(Fault::NoManifest { host: host() }.kind(), Kind::NotFound);
        assert_eq!(Fault::NotWasm(NotWasm::Elf).kind(), Kind::Refused);
        assert_eq!(
            status(429).kind(),
            Kind::Temporary { retry_after: Some(Duration::from_secs(7)) }
        );
        assert_eq!(status(418).kind(), Kind::Internal);
    }

    #[test]
    fn prints_one_line() {
        let error = RegistryError {
            reference: "r.example/a:1".to_owned(),
            fault: Fault::NoManifest { host: "r.example".to_owned() },
            mirrors_failed: 2,
        };
        assert_eq!(
            error.to_string(),
            "r.example/a:1: r.example has no such module; check the repository and the tag, and \
             whether it is private (its 2 mirrors failed before, see the agent's log)"
        );
    }
}
