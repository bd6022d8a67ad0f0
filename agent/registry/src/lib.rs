//! Wasm modules from OCI registries: capped, verified, and nothing but Wasm.
//!
//! [`Registries::resolve`] turns a [`Reference`] into a [`Resolved`], which is pinned by digest;
//! [`Registries::pull`] writes the module's bytes, checked on their way. Neither trusts what it is
//! told: a digest is computed, a length is counted, a redirect is judged before it is followed.
//!
//! The transport is hyper's client with rules of our own (`guard.rs`, `http.rs`). The `oci-client`
//! crate was tried first; it follows redirects to anywhere, reads manifests and tokens without a
//! limit, panics on a token that is no header, and takes neither a resolver nor a client of ours
//! (0.18). It remains what the tests push with, so that an independent client agrees with us on
//! the formats.

#![forbid(unsafe_code)]

mod auth;
mod config;
mod credentials;
mod digest;
mod dns;
mod error;
mod failure;
mod guard;
mod helper;
mod http;
mod manifest;
mod pull;
mod reference;
mod resolve;
mod retry;
mod source;
mod text;
mod tls;
pub mod wasm;

pub use config::{ConfigError, HostConfig, Limits, RegistryConfig};
pub use digest::{Digest, DigestError};
pub use error::{Fault, Kind, RegistryError};
pub use guard::Refusal;
pub use manifest::{Form, ManifestError};
pub use reference::{Reference, ReferenceError};
pub use resolve::Resolved;

use std::sync::Arc;

use auth::Remembered;
use credentials::Store;
use guard::Guard;
use http::Transport;

/// All registries, as configured: the one value an agent needs of this crate.
///
/// Cheap to share behind an `Arc`. It holds a few connections for a few seconds, and tokens for
/// as long as they are good; nothing runs in the background on its behalf otherwise.
pub struct Registries {
    config: RegistryConfig,
    guard: Arc<Guard>,
    transport: Transport,
    store: Store,
    remembered: Remembered,
}

impl Registries {
    /// Reads the certificate authorities and sets up the clients. The Docker config is read later,
    /// whenever a registry asks for credentials.
    ///
    /// # Errors
    /// A configuration that contradicts itself, or a file of authorities that cannot be used.
    pub fn new(config: RegistryConfig) -> Result<Self, ConfigError> {
        let config = config.validated()?;
        let guard = Arc::new(Guard::new(config.clone()));
        let transport = Transport::new(&config, Arc::clone(&guard))?;
        let store = Store::new(config.docker_config.clone(), config.limits.credential_helper);
        Ok(Self { config, guard, transport, store, remembered: Remembered::default() })
    }

    /// The limits in force.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.config.limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent spawns these on its runtime's threads.
    #[test]
    fn operations_may_move_between_threads() {
        fn movable<T: Send>(_: T) {}
        fn shareable<T: Send + Sync>(_: &T) {}
        let registries = Registries::new(RegistryConfig::default()).expect("the default is valid");
        shareable(&registries);
        let reference: Reference = "r.example/a:1".parse().expect("parses");
        movable(registries.resolve(&reference));
        let pull = async |resolved: Resolved, mut file: tokio::fs::File| {
            registries.pull(&resolved, &mut file, |_, _| ()).await
        };
        let _ = |resolved, file| movable(pull(resolved, file));
    }
}
