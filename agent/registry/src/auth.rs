//! Answers a registry's demand for credentials: Basic, or a bearer token from a token server.
//!
//! Protocols: RFC 7235 and RFC 7617; the distribution project's "Token Authentication
//! Specification" and "Oauth2 Token Authentication".

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::credentials::{Credential, Found, Snapshot};
use crate::digest::Digest;
use crate::error::Fault;
use crate::guard::{Guard, authority};
use crate::http::{Answer, Ask, Transport};

/// Tokens are a few KiB; nothing honest is longer than this.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// What a token without `expires_in` is good for, says the specification.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// A token is asked for again at least this often, whatever its server says.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// How many authorisations are remembered. One is a repository; a node runs a few hundred.
const MAX_REMEMBERED: usize = 1024;

/// What the token server is told that it serves.
const CLIENT_ID: &str = "warmstep";

/// `Authorization` headers that registries have accepted, while they last.
#[derive(Default)]
pub(crate) struct Remembered {
    entries: Mutex<HashMap<Scope, Entry>>,
}

/// What an authorisation is good for.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) origin: String,
    pub(crate) repository: String,
}

struct Entry {
    header: HeaderValue,
    /// The Docker config it was made from: with another one it is void.
    config: Digest,
    until: Instant,
}

/// A header to send, and whose credentials are in it, for people.
pub(crate) struct Authorization {
    pub(crate) header: HeaderValue,
    pub(crate) origin: String,
}

impl Remembered {
    pub(crate) fn get(&self, scope: &Scope, config: Digest) -> Option<HeaderValue> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(scope)?;
        (entry.config == config && entry.until > Instant::now()).then(|| entry.header.clone())
    }

    fn put(&self, scope: &Scope, config: Digest, header: &HeaderValue, lifetime: Duration) {
        let now = Instant::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_REMEMBERED {
            entries.retain(|_, entry| entry.until > now);
        }
        if entries.len() >= MAX_REMEMBERED {
            entries.clear();
        }
        // Ahead of time, so that a token does not expire on its way.
        let until = now + lifetime.min(MAX_LIFETIME) * 9 / 10;
        entries.insert(scope.clone(), Entry { header: header.clone(), config, until });
    }
}

/// What a 401 asks for.
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// A registry that has answered 401.
pub(crate) struct Challenger<'a> {
    pub(crate) transport: &'a Transport,
    pub(crate) guard: &'a Guard,
    pub(crate) remembered: &'a Remembered,
    /// The registry's own address.
    pub(crate) base: &'a Url,
    /// The name by which the Docker config knows it.
    pub(crate) host: &'a str,
    pub(crate) scope: &'a Scope,
}

impl Challenger<'_> {
    /// Finds out what to answer to the challenge in `headers`.
    pub(crate) async fn answer(
        &self,
        headers: &HeaderMap,
        snapshot: &Snapshot,
    ) -> Result<Authorization, Fault> {
        let challenge = parse(headers).ok_or_else(|| Fault::Protocol {
            host: authority(self.base),
            reason: "it wants credentials and offers neither Basic nor Bearer".to_owned(),
        })?;
        let found = snapshot.find(self.host).await?;
        let (header, lifetime) = match challenge {
            Challenge::Basic => (self.basic(&found)?, MAX_LIFETIME),
            Challenge::Bearer { realm, service } => {
                self.token(&realm, service.as_deref(), &found).await?
            }
        };
        self.remembered.put(self.scope, snapshot.fingerprint(), &header, lifetime);
        Ok(Authorization { header, origin: found.origin })
    }

    fn basic(&self, found: &Found) -> Result<HeaderValue, Fault> {
        match &found.credential {
            Some(Credential::Password { user, password }) => Ok(basic_header(user, password)),
            Some(Credential::IdentityToken(_)) => Err(self.denied(format!(
                "it wants a user and a password; {}",
                found.origin.replace("it did not accept", "there is only")
            ))),
            None => Err(self.denied(found.origin.clone())),
        }
    }

    fn denied(&self, credentials: String) -> Fault {
        Fault::Denied { host: authority(self.base), status: 401, credentials }
    }

    /// Gets a token from the server that the registry has named.
    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        found: &Found,
    ) -> Result<(HeaderValue, Duration), Fault> {
        let realm = Url::parse(realm).map_err(|error| Fault::Protocol {
            host: authority(self.base),
            reason: format!("the address of its token server is none: {error}"),
        })?;
        // The registry decides where the password goes, as the specification has it; the guard
        // sees to it that this is no address inside the node and that TLS stays.
        self.guard.next(self.base, &realm)?;
        let scope = format!("repository:{}:pull", self.scope.repository);
        let mut answer = match &found.credential {
            Some(Credential::IdentityToken(token)) => {
                let form = refresh_form(service, &scope, token);
                self.transport.post_form(&realm, form).await?
            }
            Some(Credential::Password { user, password }) => {
                let header = basic_header(user, password);
                self.ask_token(&token_url(&realm, service, &scope), Some(&header)).await?
            }
            None => self.ask_token(&token_url(&realm, service, &scope), None).await?,
        };
        match answer.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                return Err(Fault::Denied {
                    host: format!("token server {} of {}", answer.host, authority(self.base)),
                    status: answer.status.as_u16(),
                    credentials: found.origin.clone(),
                });
            }
            _ => return Err(answer.into_fault().await),
        }
        let host = answer.host.clone();
        let body = answer.read(MAX_TOKEN_BYTES).await?;
        body.and_then(|body| read_token(&body)).ok_or_else(|| Fault::Protocol {
            host,
            reason: "its answer holds no usable token".to_owned(),
        })
    }

    async fn ask_token(&self, url: &Url, password: Option<&HeaderValue>) -> Result<Answer, Fault> {
        let ask = Ask { url, accept: "application/json", authorization: password };
        self.transport.get(ask).await
    }
}

fn token_url(realm: &Url, service: Option<&str>, scope: &str) -> Url {
    let mut url = realm.clone();
    if let Some(service) = service {
        url.query_pairs_mut().append_pair("service", service);
    }
    url.query_pairs_mut().append_pair("scope", scope).append_pair("client_id", CLIENT_ID);
    url
}

fn refresh_form(service: Option<&str>, scope: &str, token: &str) -> String {
    Serializer::new(String::new())
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", CLIENT_ID)
        .append_pair("service", service.unwrap_or_default())
        .append_pair("scope", scope)
        .append_pair("refresh_token", token)
        .finish()
}

fn basic_header(user: &str, password: &str) -> HeaderValue {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    // Base64 is always fit for a header; an empty value would be refused like a wrong one.
    let mut header = HeaderValue::from_str(&format!("Basic {encoded}"))
        .unwrap_or_else(|_| HeaderValue::from_static(""));
    header.set_sensitive(true);
    header
}

/// The bearer header for a token server's answer, and how long it lasts.
fn read_token(body: &[u8]) -> Option<(HeaderValue, Duration)> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: Option<String>,
        #[serde(default)]
        access_token: Option<String>,
        #[serde(default)]
        expires_in: Option<u64>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let token = [answer.token, answer.access_token]
        .into_iter()
        .flatten()
        .find(|token| !token.is_empty())?;
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some((header, answer.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs)))
}

/// The challenge that can be answered best: a bearer token before a password.
fn parse(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = value.to_str() else { continue };
        for challenge in http_auth::ChallengeParser::new(text).flatten() {
            let parameter = |name: &str| {
                let (_, value) =
                    challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
                Some(value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = parameter("realm")
            {
                return Some(Challenge::Bearer { realm, service: parameter("service") });
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
