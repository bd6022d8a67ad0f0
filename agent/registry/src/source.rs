//! Where a reference can be had: its mirrors in order, then the registry itself.

use hyper::StatusCode;
use url::Url;

use crate::Registries;
use crate::auth::{Challenger, Scope};
use crate::config::parse_mirror;
use crate::digest::Digest;
use crate::error::Fault;
use crate::guard::{authority, base_url};
use crate::http::{Answer, Ask};
use crate::reference::Reference;

/// Where Docker Hub answers; its name in references is that of its web site.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// One place to ask.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The name that the configuration and the Docker config know it by.
    pub(crate) host: String,
    /// Its address, ending in a slash.
    base: Url,
    repository: String,
    /// For a mirror: the registry it stands in for, sent as `ns` so that one mirror can serve
    /// several registries (containerd's convention).
    namespace: Option<String>,
}

impl Source {
    pub(crate) const fn is_mirror(&self) -> bool {
        self.namespace.is_some()
    }

    fn url(&self, what: &str, name: &str) -> Result<Url, Fault> {
        let path = format!("v2/{}/{what}/{name}", self.repository);
        let mut url = self.base.join(&path).map_err(|error| Fault::Protocol {
            host: self.host.clone(),
            reason: format!("no address can be made for it: {error}"),
        })?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    /// The address of a manifest by tag or digest.
    pub(crate) fn manifest_url(&self, name: &str) -> Result<Url, Fault> {
        self.url("manifests", name)
    }

    /// The address of a blob.
    pub(crate) fn blob_url(&self, digest: &Digest) -> Result<Url, Fault> {
        self.url("blobs", &digest.to_string())
    }
}

impl Registries {
    /// The places to ask for `reference`, best first.
    pub(crate) fn sources(&self, reference: &Reference) -> Vec<Source> {
        let registry = reference.registry();
        let mut sources = Vec::new();
        if let Some(settings) = self.config.hosts.get(registry)
            && (reference.digest().is_some() || !settings.mirrors_by_digest_only)
        {
            for mirror in settings.mirrors.iter().filter_map(|mirror| parse_mirror(mirror)) {
                let repository = format!("{}{}", mirror.prefix, reference.repository());
                sources.extend(self.source(&mirror.host, repository, Some(registry)));
            }
        }
        sources.extend(self.source(registry, reference.repository().to_owned(), None));
        sources
    }

    fn source(&self, host: &str, repository: String, namespace: Option<&str>) -> Option<Source> {
        let address = if host == DOCKER_HUB.0 { DOCKER_HUB.1 } else { host };
        Some(Source {
            host: host.to_owned(),
            base: base_url(address, self.config.plain_http(host))?,
            repository,
            namespace: namespace.map(str::to_owned),
        })
    }

    /// Asks `source` for `url`, with credentials if it wants some and we have some. Whatever
    /// status comes then, other than a refusal of access, is the caller's to judge.
    pub(crate) async fn ask(
        &self,
        source: &Source,
        url: &Url,
        accept: &'static str,
    ) -> Result<Answer, Fault> {
        let scope =
            Scope { origin: source.base.to_string(), repository: source.repository.clone() };
        let snapshot = self.store.snapshot().await;
        let known = self.remembered.get(&scope, snapshot.fingerprint());
        let answer = self.transport.get(Ask { url, accept, authorization: known.as_ref() }).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            let credentials = match known {
                Some(_) => "although it has accepted the same credentials before",
                None => "it did not ask for credentials",
            };
            return check_access(answer, credentials).await;
        }
        if !answer.at_origin {
            let credentials = format!(
                "{} redirected there, where its credentials are not sent",
                authority(&source.base)
            );
            return check_access(answer, &credentials).await;
        }
        let challenger = Challenger {
            transport: &self.transport,
            guard: &self.guard,
            remembered: &self.remembered,
            base: &source.base,
            host: &source.host,
            scope: &scope,
        };
        let authorization = challenger.answer(&answer.headers, &snapshot).await?;
        let ask = Ask { url, accept, authorization: Some(&authorization.header) };
        check_access(self.transport.get(ask).await?, &authorization.origin).await
    }
}

/// Turns 401 and 403 into a fault that says which credentials there were.
async fn check_access(mut answer: Answer, credentials: &str) -> Result<Answer, Fault> {
    if !matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return Ok(answer);
    }
    let message = answer.message().await;
    let credentials = if message.is_empty() {
        credentials.to_owned()
    } else {
        format!("{credentials}; it says \"{message}\"")
    };
    Err(Fault::Denied { host: answer.host, status: answer.status.as_u16(), credentials })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostConfig, RegistryConfig};

    fn urls(reference: &str, config: RegistryConfig) -> Vec<String> {
        let registries = Registries::new(config).expect("valid");
        let reference: Reference = reference.parse().expect("parses");
        let name = reference.digest().map_or_else(|| "1".to_owned(), ToString::to_string);
        let sources = registries.sources(&reference);
        sources
            .iter()
            .map(|source| source.manifest_url(&name).expect("a URL").to_string())
            .collect()
    }

    #[test]
    fn mirrors_come_first_and_https_is_the_rule() {
        let mut config = RegistryConfig::default();
        assert_eq!(
            urls("docker.io/hello:1", config.clone()),
            ["https://registry-1.docker.io/v2/library/hello/manifests/1"]
        );
        assert_eq!(
            urls("localhost:5000/a/b:1", config.clone()),
            ["https://localhost:5000/v2/a/b/manifests/1"]
        );
        let mirrors = vec!["m.example:5000".to_owned(), "harbor.example/hub".to_owned()];
        let hub = HostConfig { mirrors, ..HostConfig::default() };
        config.hosts.insert("docker.io".to_owned(), hub);
        let plain = HostConfig { plain_http: true, ..HostConfig::default() };
        config.hosts.insert("m.example:5000".to_owned(), plain);
        assert_eq!(
            urls("docker.io/me/hello:1", config.clone()),
            [
                "http://m.example:5000/v2/me/hello/manifests/1?ns=docker.io",
                "https://harbor.example/v2/hub/me/hello/manifests/1?ns=docker.io",
                "https://registry-1.docker.io/v2/me/hello/manifests/1",
            ]
        );
        if let Some(hub) = config.hosts.get_mut("docker.io") {
            hub.mirrors_by_digest_only = true;
        }
        assert_eq!(urls("docker.io/me/hello:1", config.clone()).len(), 1);
        let pinned = format!("docker.io/me/hello@{}", Digest::of(b"x"));
        assert_eq!(urls(&pinned, config).len(), 3);
    }
}
