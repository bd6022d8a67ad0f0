//! References to modules: `[oci://]registry/repository[:tag][@sha256:…]`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};
use crate::text::one_line;

/// The tag that stands for none, as everywhere in the world of containers.
const DEFAULT_TAG: &str = "latest";

/// Longer than the longest valid reference: 255 for the name, 128 for a tag, 71 for a digest.
const MAX_BYTES: usize = 512;

/// The longest name, registry and repository together (distribution/reference, `NameTotalLengthMax`).
const MAX_NAME_BYTES: usize = 255;

/// The longest tag (OCI distribution specification, "Pulling manifests").
const MAX_TAG_BYTES: usize = 128;

/// Names one module in one registry. Without tag and digest the tag is `latest`.
///
/// The grammar is that of the distribution project, with two differences. The registry must be
/// named: what an unqualified name means depends on who reads it, and that is how people come to
/// run somebody else's code. And digests are SHA-256 only.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a module reference: {problem}")]
pub struct ReferenceError {
    text: String,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("it is empty; write registry/repository:tag")]
    Empty,
    #[error("it is longer than {MAX_BYTES} bytes")]
    Long,
    #[error("{0:?} cannot be part of one")]
    Character(char),
    #[error("write it without \"{0}://\"")]
    Scheme(String),
    #[error("it names no registry; write it in full, such as {0}")]
    NoRegistry(String),
    #[error("\"{0}\" is not a host name with an optional port")]
    Registry(String),
    #[error("it names no repository; write registry/repository:tag")]
    NoRepository,
    #[error("a repository is written in lowercase, \"{0}\" is not")]
    Uppercase(String),
    #[error(
        "\"{0}\" is not part of a repository's name: letters and digits, between them \".\", \"_\", \"__\" or \"-\""
    )]
    Component(String),
    #[error("registry and repository are longer than {MAX_NAME_BYTES} bytes")]
    LongName,
    #[error(
        "\"{0}\" is not a tag: up to {MAX_TAG_BYTES} letters, digits, \"_\", \".\" and \"-\", the first neither \".\" nor \"-\""
    )]
    Tag(String),
    #[error("\"{text}\" is not a digest: {error}")]
    Digest { text: String, error: DigestError },
}

impl Reference {
    /// The registry's host and port as written, in lowercase.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag. Where there is a digest too, the digest decides and the tag is for the reader.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same reference, pinned to the manifest with this digest.
    #[must_use]
    pub fn pinned(&self, manifest: Digest) -> Self {
        Self { digest: Some(manifest), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|problem| ReferenceError { text: one_line(text, 120), problem })
    }
}

fn parse(text: &str) -> Result<Reference, Problem> {
    if text.len() > MAX_BYTES {
        return Err(Problem::Long);
    }
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(Problem::Character(odd));
    }
    let text = text.strip_prefix("oci://").unwrap_or(text);
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(Problem::Scheme(scheme.to_owned()));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
        None => (text, None),
    };
    // A colon before the last slash is that of a port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') && name.contains('/') => {
            (name, Some(parse_tag(tag)?))
        }
        _ => (rest, None),
    };
    let (registry, repository) = split_name(name)?;
    let tag = match (tag, &digest) {
        (None, None) => Some(DEFAULT_TAG.to_owned()),
        (tag, _) => tag,
    };
    Ok(Reference { registry, repository, tag, digest })
}

fn parse_digest(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|error| Problem::Digest { text: text.to_owned(), error })
}

fn parse_tag(text: &str) -> Result<String, Problem> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let valid = text.len() <= MAX_TAG_BYTES
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
    if valid { Ok(text.to_owned()) } else { Err(Problem::Tag(text.to_owned())) }
}

fn split_name(name: &str) -> Result<(String, String), Problem> {
    if name.is_empty() {
        return Err(Problem::Empty);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(Problem::LongName);
    }
    let (first, repository) = name.split_once('/').unwrap_or((name, ""));
    // How Docker, and everybody after it, tells a registry from a repository. Without a slash a
    // colon is more likely that of a tag.
    let host = first.split(':').next().unwrap_or_default();
    let is_registry = first.contains('.')
        || host.eq_ignore_ascii_case("localhost")
        || (first.contains(':') && !repository.is_empty());
    if !is_registry {
        let namespace = if name.contains('/') { "" } else { "library/" };
        return Err(Problem::NoRegistry(format!("docker.io/{namespace}{name}")));
    }
    let registry = normal_host(first).ok_or_else(|| Problem::Registry(first.to_owned()))?;
    if repository.is_empty() {
        return Err(Problem::NoRepository);
    }
    check_repository(repository)?;
    // Docker Hub's own images have a namespace that nobody writes.
    if registry == "docker.io" && !repository.contains('/') {
        return Ok((registry, format!("library/{repository}")));
    }
    Ok((registry, repository.to_owned()))
}

fn check_repository(repository: &str) -> Result<(), Problem> {
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(Problem::Uppercase(repository.to_owned()));
    }
    match repository.split('/').find(|component| !is_component(component)) {
        Some(component) => Err(Problem::Component(component.to_owned())),
        None => Ok(()),
    }
}

/// `alphanumeric (separator alphanumeric)*` with the separators `.`, `_`, `__` and any number of `-`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    alphanumeric(first)
        && alphanumeric(last)
        && text
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|between| matches!(between, "" | "." | "_" | "__") || is_dashes(between))
}

fn is_dashes(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'-')
}

/// `text` as `host[:port]` in lowercase and without HTTPS's own port, or nothing if it is none.
pub(crate) fn normal_host(text: &str) -> Option<String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (&text[..address.len() + 2], port)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port_valid = port.is_empty()
        || port.strip_prefix(':').is_some_and(|digits| {
            digits.bytes().all(|byte| byte.is_ascii_digit())
                && digits.parse::<u16>().is_ok_and(|port| port > 0)
        });
    let host_valid = host.starts_with('[') || host.split('.').all(is_label);
    let written = if port == ":443" { host } else { text };
    (port_valid && host_valid).then(|| written.to_ascii_lowercase())
}

/// A label of a host name: letters, digits and inner hyphens, at most 63 (RFC 1123, section 2.1).
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
