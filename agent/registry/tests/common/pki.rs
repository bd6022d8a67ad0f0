//! Certificates for tests: an authority, what it signs, and keys that sign tokens.

#![allow(dead_code, reason = "every test binary uses another part of this")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// An authority, in PEM at `ca`.
pub(crate) struct Authority {
    pub(crate) ca: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

/// A certificate and its key, also as PEM files.
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    certificate_der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
        parameters.distinguished_name.push(DnType::CommonName, "an authority for tests");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).expect("self-signed");
        let ca = write(directory.path(), "ca.pem", &certificate.pem());
        Self { ca, issuer: Issuer::new(parameters, key), directory }
    }

    /// A certificate for `name`, an address or a host name.
    pub(crate) fn sign(&self, name: &str) -> Identity {
        self.sign_with(name, |_| ())
    }

    /// A certificate for `name` that has expired.
    pub(crate) fn sign_expired(&self, name: &str) -> Identity {
        self.sign_with(name, |parameters| {
            parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
            parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
        })
    }

    fn sign_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new([name.to_owned()]).expect("parameters");
        change(&mut parameters);
        let certificate = parameters.signed_by(&key, &self.issuer).expect("signed");
        let files = tempfile::tempdir_in(self.directory.path()).expect("a directory").keep();
        Identity {
            certificate: write(&files, "server.pem", &certificate.pem()),
            key: write(&files, "server.key", &key.serialize_pem()),
            certificate_der: certificate.der().clone(),
            key_der: key.serialize_der(),
        }
    }
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("a PEM file is written");
    path
}

impl Identity {
    /// For a server of our own.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let key = PrivatePkcs8KeyDer::from(self.key_der.clone());
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate_der.clone()], key.into())
            .expect("the key fits");
        TlsAcceptor::from(Arc::new(config))
    }

    /// The certificate in DER.
    pub(crate) fn der(&self) -> &[u8] {
        &self.certificate_der
    }

    /// The key in PKCS 8.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.key_der
    }
}
