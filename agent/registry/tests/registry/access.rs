//! Basic access with a Docker config: right, wrong, missing, broken, rotated.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use warmstep_registry::{Kind, RegistryConfig};

use super::common::{Options, Registry, module};
use super::{config, pull, refused_with, registries};

/// Writes a Docker config with one entry.
pub(crate) fn docker_config(path: &Path, host: &str, user: &str, password: &str) {
    let auth = STANDARD.encode(format!("{user}:{password}"));
    let document = json!({ "auths": { host: { "auth": auth } } });
    // As the kubelet does it: a new file takes the old one's place.
    let new = path.with_extension("new");
    std::fs::write(&new, document.to_string()).expect("written");
    std::fs::rename(new, path).expect("renamed");
}

struct Private {
    /// Where it can be pushed to.
    _open: Registry,
    registry: Registry,
    wasm: Vec<u8>,
    text: String,
}

/// A registry with a module that only alice may have.
fn private() -> Private {
    let open = Registry::anonymous();
    let wasm = module(1, 50_000);
    open.push("a", "1", &wasm);
    let registry = Registry::start(&Options {
        user: Some(("alice", "sesame")),
        store: Some(open.store()),
        ..Options::default()
    });
    let text = format!("{}/a:1", registry.host);
    Private { _open: open, registry, wasm, text }
}

fn with_file(private: &Private, path: &Path) -> RegistryConfig {
    RegistryConfig { docker_config: Some(path.to_owned()), ..config(&[&private.registry.host]) }
}

#[tokio::test]
async fn a_password_opens_and_nothing_else() {
    let private = private();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.json");
    let host = private.registry.host.as_str();

    let anonymous = registries(config(&[host]));
    let error = refused_with(&anonymous, &private.text, "no Docker config is configured").await;
    assert_eq!(error.kind(), Kind::Refused);

    let registries = registries(with_file(&private, &path));
    let error = refused_with(&registries, &private.text, "config.json: No such file").await;
    assert_eq!(error.kind(), Kind::Internal, "the node's configuration is at fault");

    docker_config(&path, "other.example", "alice", "sesame");
    let error = refused_with(&registries, &private.text, "config.json has none for it").await;
    assert_eq!(error.kind(), Kind::Refused);

    docker_config(&path, host, "alice", "wrong");
    let error =
        refused_with(&registries, &private.text, "did not accept the password of alice").await;
    assert_eq!(error.kind(), Kind::Refused);
    assert!(!error.to_string().contains("wrong"), "the password is not printed: {error}");

    docker_config(&path, host, "alice", "sesame");
    let (_, bytes) = pull(&registries, &private.text).await.expect("the right password");
    assert!(bytes == private.wasm);
}

#[tokio::test]
async fn a_rotated_password_counts_at_once() {
    let private = private();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.json");
    let host = private.registry.host.as_str();
    let registries = registries(with_file(&private, &path));

    docker_config(&path, host, "alice", "sesame");
    pull(&registries, &private.text).await.expect("pulled");
    docker_config(&path, host, "alice", "revoked");
    refused_with(&registries, &private.text, "did not accept").await;
    docker_config(&path, host, "alice", "sesame");
    pull(&registries, &private.text).await.expect("pulled again, by the same value");
}
