//! Whose certificates are believed.
//!
//! The operator's word counts first: with `ca` for a host, only that. Otherwise the machine's own
//! authorities (`SSL_CERT_FILE`, `SSL_CERT_DIR`, `/etc/ssl/certs` and its like), which is where
//! a company's own one is installed. The agent's image is made from nothing and has none of
//! these; then Mozilla's list counts, which is built in.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::config::ConfigError;

/// The TLS settings for hosts without a `ca` of their own.
pub(crate) fn machine() -> Result<ClientConfig, ConfigError> {
    let native = rustls_native_certs::load_native_certs();
    for error in native.errors {
        tracing::debug!(%error, "a file of certificate authorities was passed over");
    }
    client(roots(native.certs))
}

fn roots(native: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(native);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// The TLS settings for `host`, whose authorities are in the PEM file `path`.
pub(crate) fn with_ca(host: &str, path: &Path) -> Result<ClientConfig, ConfigError> {
    let fail =
        |reason: String| ConfigError::Ca { host: host.to_owned(), path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| fail(error.to_string()))?;
        roots.add(certificate).map_err(|error| fail(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fail("there is no certificate in it".to_owned()));
    }
    client(roots)
}

fn client(roots: RootCertStore) -> Result<ClientConfig, ConfigError> {
    // Named here and not left to a process-wide default, which a library would panic without.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::Tls(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_decides_where_it_has_an_opinion() {
        assert!(roots(Vec::new()).len() > 100, "an image made from nothing");
        let broken = CertificateDer::from(b"no certificate".to_vec());
        assert!(roots(vec![broken]).len() > 100, "or with nothing usable");
        let own = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).expect("made");
        assert_eq!(roots(vec![own.cert.der().clone()]).len(), 1, "a company's own authority");
    }
}
