//! What the node's operator says about registries: hosts, mirrors, credentials, limits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::reference::normal_host;

/// Everything configurable about registries. The default reaches any registry over HTTPS,
/// anonymously.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryConfig {
    /// Settings by `host[:port]`, as references write it. A host that is named here may also
    /// have an address that others may not: loopback or link-local.
    pub hosts: BTreeMap<String, HostConfig>,
    /// A Docker `config.json` with credentials, read again whenever a registry asks for them.
    /// Without it every access is anonymous.
    pub docker_config: Option<PathBuf>,
    /// The name servers to ask, as `address:port`; when empty, those of `/etc/resolv.conf`.
    pub dns_servers: Vec<SocketAddr>,
    /// What a registry may cost.
    pub limits: Limits,
}

/// Settings of one registry host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostConfig {
    /// Speak HTTP without TLS. Without this every host, `localhost` too, is spoken to over HTTPS.
    pub plain_http: bool,
    /// A PEM file of certificate authorities. Only certificates they vouch for are then accepted
    /// from this host; the usual authorities no longer count for it.
    pub ca: Option<PathBuf>,
    /// Mirrors of this registry, as `host[:port][/prefix]`, tried in this order before the
    /// registry itself. A prefix is put before the repository, as pull-through caches want it.
    /// What a mirror needs (`plain_http`, `ca`) is configured under its own name in `hosts`.
    pub mirrors: Vec<String>,
    /// Ask mirrors only for what is pinned by digest, so that they cannot choose what a tag means.
    pub mirrors_by_digest_only: bool,
}

/// What a registry may cost. Times are written as `30s` or `10m`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest module, in bytes. Default 256 MiB: ten times a Python or a Ruby.
    pub module_bytes: u64,
    /// The largest manifest, in bytes. Default 4 MiB, what the distribution specification asks
    /// registries to accept.
    pub manifest_bytes: u64,
    /// The time to resolve a reference, retries included. Default 30 s.
    #[serde(deserialize_with = "duration")]
    pub resolve: Duration,
    /// The time to pull a module, retries included. Default 10 min.
    #[serde(deserialize_with = "duration")]
    pub pull: Duration,
    /// The time to connect to one address. Default 10 s.
    #[serde(deserialize_with = "duration")]
    pub connect: Duration,
    /// The longest silence of a registry, before its answer or within it. Default 30 s.
    #[serde(deserialize_with = "duration")]
    pub idle: Duration,
    /// The time a credential helper has. Default 10 s.
    #[serde(deserialize_with = "duration")]
    pub credential_helper: Duration,
    /// How often a registry is asked when it fails for the moment. Mirrors are asked once.
    /// Default 3.
    pub attempts: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            module_bytes: 256 << 20,
            manifest_bytes: 4 << 20,
            resolve: Duration::from_secs(30),
            pull: Duration::from_secs(600),
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            credential_helper: Duration::from_secs(10),
            attempts: 3,
        }
    }
}

/// Why a [`RegistryConfig`] cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A key of `hosts` is no host.
    #[error("registry host \"{0}\": write host or host:port, without a scheme or a path")]
    Host(String),
    /// Two keys of `hosts` name the same host.
    #[error("registry host \"{0}\" is configured twice")]
    Twice(String),
    /// A mirror is none.
    #[error(
        "mirror \"{mirror}\" of {host}: write host[:port][/prefix] in lowercase, without a scheme"
    )]
    Mirror {
        /// The registry whose mirror it is.
        host: String,
        /// The mirror as configured.
        mirror: String,
    },
    /// A file of certificate authorities cannot be used.
    #[error("certificate authorities of {host} in {}: {reason}", path.display())]
    Ca {
        /// The registry they are for.
        host: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A limit that must not be zero.
    #[error("registry limit {0} must be more than zero")]
    Zero(&'static str),
    /// The TLS library refused to start.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// The DNS library refused to start.
    #[error("cannot set up name resolution: {0}")]
    Dns(String),
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        serde::de::Error::custom(format!("\"{text}\" is not a time such as 30s or 10m: {error}"))
    })
}

/// One place to pull from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    /// `host[:port]`.
    pub(crate) host: String,
    /// What is put before the repository, with its slash.
    pub(crate) prefix: String,
}

impl RegistryConfig {
    /// Checks what can be checked without opening files, and writes the hosts in lowercase.
    pub(crate) fn validated(mut self) -> Result<Self, ConfigError> {
        let limits = &self.limits;
        let zero = [
            ("module_bytes", limits.module_bytes == 0),
            ("manifest_bytes", limits.manifest_bytes == 0),
            ("resolve", limits.resolve.is_zero()),
            ("pull", limits.pull.is_zero()),
            ("connect", limits.connect.is_zero()),
            ("idle", limits.idle.is_zero()),
            ("credential_helper", limits.credential_helper.is_zero()),
            ("attempts", limits.attempts == 0),
        ];
        if let Some((name, _)) = zero.into_iter().find(|(_, zero)| *zero) {
            return Err(ConfigError::Zero(name));
        }
        let mut hosts = BTreeMap::new();
        for (key, host) in self.hosts {
            let name = normal_host(&key).ok_or_else(|| ConfigError::Host(key.clone()))?;
            for mirror in &host.mirrors {
                parse_mirror(mirror).ok_or_else(|| ConfigError::Mirror {
                    host: name.clone(),
                    mirror: mirror.clone(),
                })?;
            }
            if hosts.insert(name.clone(), host).is_some() {
                return Err(ConfigError::Twice(name));
            }
        }
        self.hosts = hosts;
        Ok(self)
    }

    /// Whether this host, as `host[:port]`, is spoken to without TLS.
    pub(crate) fn plain_http(&self, host: &str) -> bool {
        self.hosts.get(host).is_some_and(|host| host.plain_http)
    }
}

/// The mirror that `text` describes.
pub(crate) fn parse_mirror(text: &str) -> Option<Mirror> {
    let (host, prefix) = text.split_once('/').unwrap_or((text, ""));
    let host = normal_host(host)?;
    if prefix.is_empty() {
        return Some(Mirror { host, prefix: String::new() });
    }
    // A prefix is a repository; let the grammar of references judge it.
    let reference: crate::Reference = format!("r.example/{prefix}").parse().ok()?;
    (reference.repository() == prefix).then(|| Mirror { host, prefix: format!("{prefix}/") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RegistryConfig, String> {
        let config: RegistryConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.validated().map_err(|error| error.to_string())
    }

    #[test]
    fn reads_what_an_operator_writes() {
        let config = read(
            r#"
            docker_config = "/etc/warmstep/docker.json"
            dns_servers = ["10.0.0.10:53"]

            [hosts."docker.io"]
            mirrors = ["mirror.example:5000", "harbor.example/hub"]
            mirrors_by_digest_only = true

            [hosts."Mirror.Example:5000"]
            plain_http = true

            [limits]
            module_bytes = 1048576
            pull = "5m"
            "#,
        )
        .expect("valid");
        assert!(config.plain_http("mirror.example:5000"));
        assert!(!config.plain_http("mirror.example"));
        assert!(!config.plain_http("localhost"));
        assert_eq!(config.limits.pull, Duration::from_secs(300));
        assert_eq!(config.limits.idle, Limits::default().idle);
        assert_eq!(
            parse_mirror("harbor.example/hub"),
            Some(Mirror { host: "harbor.example".into(), prefix: "hub/".into() })
        );
    }

    #[test]
    fn refuses_what_it_cannot_mean() {
        for (text, word) in [
            ("host = {}", "unknown field"),
            ("[hosts.\"a.example\"]\nplain = true", "unknown field"),
            ("[limits]\npull = 5", "string"),
            ("[limits]\npull = \"soon\"", "10m"),
            ("[limits]\npull = \"0s\"", "pull must be more than zero"),
            ("[limits]\nattempts = 0", "attempts must be more than zero"),
            ("[limits]\nmodule_bytes = -1", "invalid value"),
            ("[hosts.\"http://a.example\"]", "without a scheme"),
            ("[hosts.\"a.example/x\"]", "without a scheme or a path"),
            ("[hosts.\"a.example\"]\n[hosts.\"A.example\"]", "twice"),
            ("[hosts.\"a.example\"]\nmirrors = [\"https://b.example\"]", "mirror"),
            ("[hosts.\"a.example\"]\nmirrors = [\"b.example/\"]", ""),
            ("[hosts.\"a.example\"]\nmirrors = [\"b.example/X\"]", "lowercase"),
            ("[hosts.\"a.example\"]\nmirrors = [\"b.example/x:1\"]", "mirror"),
        ] {
            match read(text) {
                Ok(_) => assert!(word.is_empty(), "{text} was accepted"),
                Err(error) => assert!(error.contains(word), "{text}: {error}"),
            }
        }
    }
}
