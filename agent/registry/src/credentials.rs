//! Credentials from a Docker `config.json`: entries, identity tokens, helpers.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::digest::Digest;
use crate::error::Fault;
use crate::helper;

/// A configuration of thousands of registries fits; anything larger is not one.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// What `docker login` calls Docker Hub, and what its helpers expect to be asked for.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What a registry is shown.
pub(crate) enum Credential {
    /// A user and a password, or what stands for one.
    Password { user: String, password: String },
    /// An OAuth 2 refresh token, which a token server exchanges.
    IdentityToken(String),
}

/// A credential and where it came from, or why there is none, for people.
pub(crate) struct Found {
    pub(crate) credential: Option<Credential>,
    pub(crate) origin: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// The configured file. It is read anew for every use, so that a rotated secret counts at once.
pub(crate) struct Store {
    path: Option<PathBuf>,
    helper_deadline: Duration,
}

/// The file's content at one moment.
pub(crate) struct Snapshot {
    path: Option<PathBuf>,
    content: Result<Vec<u8>, std::io::Error>,
    helper_deadline: Duration,
}

/// The parts of the file that this module reads itself: which helper to ask. The entries of
/// `auths` are docker_credential's to read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerConfig {
    #[serde(default)]
    auths: Value,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

impl Store {
    pub(crate) const fn new(path: Option<PathBuf>, helper_deadline: Duration) -> Self {
        Self { path, helper_deadline }
    }

    /// Reads the file, if one is configured. A failure only counts once credentials are needed.
    pub(crate) async fn snapshot(&self) -> Snapshot {
        let content = match &self.path {
            Some(path) => read_capped(path).await,
            None => Ok(Vec::new()),
        };
        Snapshot { path: self.path.clone(), content, helper_deadline: self.helper_deadline }
    }
}

async fn read_capped(path: &Path) -> Result<Vec<u8>, std::io::Error> {
    let mut content = Vec::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut content).await?;
    if content.len() as u64 > MAX_CONFIG_BYTES {
        return Err(std::io::Error::other(format!("larger than {MAX_CONFIG_BYTES} bytes")));
    }
    Ok(content)
}

impl Snapshot {
    /// Changes whenever the file does: what was authorised with another content must not be used.
    pub(crate) fn fingerprint(&self) -> Digest {
        Digest::of(self.content.as_deref().unwrap_or_default())
    }

    /// The credentials for `host`, as `host[:port]`.
    pub(crate) async fn find(&self, host: &str) -> Result<Found, Fault> {
        let Some(path) = &self.path else {
            let origin = "it wants credentials, and no Docker config is configured (docker_config)";
            return Ok(Found { credential: None, origin: origin.to_owned() });
        };
        let fail = |reason: String| Fault::Credentials {
            host: host.to_owned(),
            path: path.clone(),
            reason,
        };
        let content = self.content.as_ref().map_err(|error| fail(error.to_string()))?;
        let config = read(content).map_err(fail)?;

        // Docker's own order: the host's helper, then the entries, then the helper for all.
        if let Some((server, name)) = config.helper_for(host) {
            return self.ask_helper(host, path, name, server).await;
        }
        let entries = json!({ "auths": config.auths }).to_string();
        let found = match docker_credential::get_credential_from_reader(entries.as_bytes(), host) {
            Ok(credential) => Some(credential),
            Err(CredentialRetrievalError::NoCredentialConfigured) => None,
            Err(error) => return Err(fail(error.to_string().to_lowercase())),
        };
        match (found, config.creds_store.filter(|name| !name.is_empty())) {
            (Some(credential), _) => Ok(Found::new(credential, &path.display().to_string())),
            (None, Some(name)) => self.ask_helper(host, path, &name, server_name(host)).await,
            (None, None) => Ok(Found {
                credential: None,
                origin: format!("it wants credentials, and {} has none for it", path.display()),
            }),
        }
    }

    async fn ask_helper(
        &self,
        host: &str,
        path: &Path,
        name: &str,
        server: &str,
    ) -> Result<Found, Fault> {
        let origin = format!("docker-credential-{name}, named in {}", path.display());
        match helper::ask(name, server, self.helper_deadline).await {
            Ok(Some(credential)) => Ok(Found::new(credential, &origin)),
            Ok(None) => Ok(Found {
                credential: None,
                origin: format!("it wants credentials, and {origin}, has none for it"),
            }),
            Err(error) => Err(Fault::Credentials {
                host: host.to_owned(),
                path: path.to_owned(),
                reason: error.to_string(),
            }),
        }
    }
}

/// Reads the file, or says what is wrong with it. serde's own words may quote a secret.
fn read(content: &[u8]) -> Result<DockerConfig, String> {
    // An object and no list, which serde would take for a struct, too.
    let object: serde_json::Map<String, Value> = serde_json::from_slice(content)
        .map_err(|e| format!("it is no JSON object (line {}, column {})", e.line(), e.column()))?;
    DockerConfig::deserialize(Value::Object(object))
        .map_err(|_| "credsStore is no text, or credHelpers no object of texts".to_owned())
}

impl DockerConfig {
    /// The helper configured for this host alone, and the name the host goes by there.
    fn helper_for<'a>(&'a self, host: &'a str) -> Option<(&'a str, &'a str)> {
        [host, server_name(host)].into_iter().find_map(|server| {
            let name = self.cred_helpers.get(server)?;
            (!name.is_empty()).then_some((server, name.as_str()))
        })
    }
}

/// The name a helper knows the host by.
fn server_name(host: &str) -> &str {
    if host == "docker.io" { DOCKER_HUB } else { host }
}

impl Found {
    fn new(credential: DockerCredential, origin: &str) -> Self {
        match credential {
            DockerCredential::IdentityToken(token) => Self {
                credential: Some(Credential::IdentityToken(token)),
                origin: format!("it did not accept the identity token from {origin}"),
            },
            DockerCredential::UsernamePassword(user, password) => Self {
                origin: format!(
                    "it did not accept the password of {} from {origin}",
                    crate::text::one_line(&user, 60)
                ),
                credential: Some(Credential::Password { user, password }),
            },
        }
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
