//! HTTPS: whose certificates are believed, and what is said when the schemes do not match.

use std::path::PathBuf;

use warmstep_registry::{ConfigError, HostConfig, Kind, Registries, RegistryConfig};

use super::common::{Options, Registry, module};
use super::pki::{Authority, Identity};
use super::{config, limits, pull, refused_with, registries};

fn with_ca(host: &str, ca: Option<&PathBuf>) -> RegistryConfig {
    let settings = HostConfig { ca: ca.cloned(), ..HostConfig::default() };
    let hosts = [(host.to_owned(), settings)].into();
    RegistryConfig { hosts, limits: limits(), ..RegistryConfig::default() }
}

/// A registry with this certificate and one module.
fn secure(identity: &Identity) -> (Registry, Registry, Vec<u8>) {
    let open = Registry::anonymous();
    let wasm = module(1, 50_000);
    open.push("a", "1", &wasm);
    let registry = Registry::start(&Options {
        tls: Some((&identity.certificate, &identity.key)),
        store: Some(open.store()),
        ..Options::default()
    });
    (open, registry, wasm)
}

#[tokio::test]
async fn an_authority_counts_where_it_is_configured() {
    let authority = Authority::new();
    let (_open, registry, wasm) = secure(&authority.sign("127.0.0.1"));
    let text = format!("{}/a:1", registry.host);

    let (_, bytes) = pull(&registries(with_ca(&registry.host, Some(&authority.ca))), &text)
        .await
        .expect("its authority is configured");
    assert!(bytes == wasm);

    let error = refused_with(
        &registries(RegistryConfig { limits: limits(), ..RegistryConfig::default() }),
        &text,
        "set ca for",
    )
    .await;
    assert_eq!(error.kind(), Kind::Internal);
    let other = Authority::new();
    refused_with(&registries(with_ca(&registry.host, Some(&other.ca))), &text, "unknown authority")
        .await;
    refused_with(&registries(with_ca("127.0.0.1", Some(&authority.ca))), &text, "set ca for").await;
}

#[tokio::test]
async fn names_and_dates_are_checked() {
    let authority = Authority::new();
    for (identity, word) in [
        (authority.sign("registry.example"), "for another name"),
        (authority.sign("127.0.0.2"), "for another name"),
        (authority.sign_expired("127.0.0.1"), "has expired"),
    ] {
        let (_open, registry, _) = secure(&identity);
        let registries = registries(with_ca(&registry.host, Some(&authority.ca)));
        refused_with(&registries, &format!("{}/a:1", registry.host), word).await;
    }
}

#[tokio::test]
async fn mismatched_schemes_are_explained() {
    let plain = Registry::anonymous();
    let text = format!("{}/a:1", plain.host);
    let https = RegistryConfig { limits: limits(), ..RegistryConfig::default() };
    refused_with(&registries(https), &text, "set plain_http = true").await;

    let authority = Authority::new();
    let (_open, registry, _) = secure(&authority.sign("127.0.0.1"));
    let text = format!("{}/a:1", registry.host);
    refused_with(&registries(config(&[&registry.host])), &text, "HTTPS server").await;
}

#[test]
fn a_bad_file_of_authorities_is_found_at_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").expect("written");
    let broken = directory.path().join("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n")
        .expect("written");
    for path in [empty, broken, directory.path().join("missing.pem")] {
        let error = Registries::new(with_ca("r.example", Some(&path))).err().expect("refused");
        assert!(matches!(error, ConfigError::Ca { .. }), "{error}");
        let line = error.to_string();
        assert!(line.contains(&path.display().to_string()) && !line.contains('\n'), "{line}");
    }
}
