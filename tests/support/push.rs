//! Pushing modules, in both forms of artifact, with a client that is not ours.

use anyhow::{Context, Result};
use oci_client::client::{ClientConfig, ClientProtocol};
pub use oci_client::client::{Config, ImageLayer};
use oci_client::manifest::OciImageManifest;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::registry::Registry;

/// How a module lies in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The CNCF's Wasm artifact: `application/vnd.wasm.config.v0+json`, a layer
    /// `application/wasm`.
    Cncf,
    /// What came before: a layer `application/vnd.wasm.content.layer.v1+wasm`.
    Older,
}

/// Where a pushed module is.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// `oci://HOST/REPOSITORY:TAG`.
    pub reference: String,
    /// `oci://HOST/REPOSITORY@sha256:…`, the manifest's digest.
    pub pinned: String,
    /// `sha256:…` of the first layer, which is the Wasm.
    pub digest: String,
}

impl Registry {
    /// Pushes a module.
    ///
    /// # Errors
    ///
    /// When the registry does not take it.
    pub fn push(&self, repository: &str, tag: &str, form: Form, wasm: Vec<u8>) -> Result<Pushed> {
        let digest = sha256(&wasm);
        let (config, layer) = artifact(form, wasm, &digest);
        self.push_layers(repository, tag, config, vec![layer])
    }

    /// Pushes layers as they are, for artifacts that are none of ours.
    ///
    /// # Errors
    ///
    /// When the registry does not take them.
    pub fn push_layers(
        &self,
        repository: &str,
        tag: &str,
        config: Config,
        layers: Vec<ImageLayer>,
    ) -> Result<Pushed> {
        let digest = layers.first().map(|layer| sha256(&layer.data)).unwrap_or_default();
        let name = format!("{}/{repository}:{tag}", self.host());
        let reference: Reference = name.parse().with_context(|| name.clone())?;
        let auth = match self.credentials() {
            Some((user, password)) => RegistryAuth::Basic(user.to_owned(), password.to_owned()),
            None => RegistryAuth::Anonymous,
        };
        let manifest = OciImageManifest::build(&layers, &config, None);
        let client = client();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let manifest_digest = runtime.block_on(async {
            client.push(&reference, &layers, config, &auth, Some(manifest)).await?;
            client.fetch_manifest_digest(&reference, &auth).await
        });
        let manifest_digest = manifest_digest.with_context(|| format!("pushing {name}"))?;
        Ok(Pushed {
            reference: format!("oci://{name}"),
            pinned: format!("oci://{}/{repository}@{manifest_digest}", self.host()),
            digest,
        })
    }
}

fn client() -> Client {
    // Its HTTP library wants to be told which cryptography to use, even for plain HTTP. An error
    // means that it has been told already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new(ClientConfig { protocol: ClientProtocol::Http, ..Default::default() })
}

/// `sha256:` and the digest in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The media types: tag-runtime's "Wasm OCI artifact layout" for the first, solo.io's "Wasm
/// artifact image specification" for the other.
fn artifact(form: Form, wasm: Vec<u8>, digest: &str) -> (Config, ImageLayer) {
    let (config, config_type, layer_type) = match form {
        Form::Cncf => (
            json!({"architecture": "wasm", "os": "wasip1", "layerDigests": [digest]}),
            "application/vnd.wasm.config.v0+json",
            "application/wasm",
        ),
        Form::Older => (
            json!({}),
            "application/vnd.wasm.config.v1+json",
            "application/vnd.wasm.content.layer.v1+wasm",
        ),
    };
    let config = Config::new(config.to_string().into_bytes(), config_type.to_owned(), None);
    (config, ImageLayer::new(wasm, layer_type.to_owned(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_found_again_also_behind_a_password() {
        let wasm = b"\0asm\x01\0\0\0".to_vec();
        let registry = Registry::with_password("user", "secret").expect("a registry");
        let auth = RegistryAuth::Basic("user".to_owned(), "secret".to_owned());
        let client = client();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        for (form, tag) in [(Form::Cncf, "cncf"), (Form::Older, "older")] {
            let (_, layer) = artifact(form, wasm.clone(), "");
            let pushed = registry.push("test/empty", tag, form, wasm.clone()).expect("pushed");
            assert_eq!(pushed.digest, sha256(&wasm));
            let pinned = pushed.pinned.strip_prefix("oci://").expect("a reference");
            let reference: Reference = pinned.parse().expect("a reference");
            let image = client.pull(&reference, &auth, vec![layer.media_type.as_str()]);
            let image = runtime.block_on(image).expect("pulled");
            assert_eq!(image.layers[0].data, wasm);
            assert_eq!(image.layers[0].media_type, layer.media_type);
        }
        let asked = registry.requests("PUT /v2/test/empty/manifests/").expect("a log");
        assert_eq!(asked, 2, "one manifest each");
    }
}
