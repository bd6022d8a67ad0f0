//! Where requests may go: which schemes, which hosts, which addresses.
//!
//! A reference, a redirect and a token realm each let somebody outside choose where the agent
//! connects to. The agent sits in the node's network, so the answer is decided here, before a
//! connection is made, on the addresses that are then connected to.

use std::collections::BTreeSet;
use std::net::IpAddr;

use url::{Host, Url};
use warmstep_addresses::{forbidden, unmapped};

use crate::config::RegistryConfig;

/// Why a request was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// From HTTPS to HTTP.
    #[error("{from} led to {to} over plain HTTP, which would undo its TLS")]
    Downgrade {
        /// The host that was asked.
        from: String,
        /// The host it named.
        to: String,
    },
    /// To a host over HTTP that is not configured for it.
    #[error("{from} led to {to} over plain HTTP; if that is meant, set plain_http = true for {to}")]
    PlainHttp {
        /// The host that was asked.
        from: String,
        /// The host it named.
        to: String,
    },
    /// To something that is no web address.
    #[error("{from} led to an address that is neither https nor http")]
    Scheme {
        /// The host that was asked.
        from: String,
    },
    /// To an address that carries a user or a password.
    #[error("{from} led to an address with a user name or a password in it")]
    UserInfo {
        /// The host that was asked.
        from: String,
    },
    /// To an address that no registry has.
    #[error("{host} is {what} ({address}), where no registry is")]
    Address {
        /// The host as named.
        host: String,
        /// Its address.
        address: IpAddr,
        /// The kind of address.
        what: &'static str,
    },
    /// To this node itself.
    #[error("{host} is the node itself ({address}); if that is meant, name {host} under hosts")]
    Loopback {
        /// The host as named.
        host: String,
        /// Its address.
        address: String,
    },
}

/// The rules, and the hosts the operator has named.
#[derive(Debug)]
pub(crate) struct Guard {
    config: RegistryConfig,
    /// The hosts of the configuration without their ports: names are resolved without one.
    named: BTreeSet<String>,
}

impl Guard {
    /// Rules for this configuration, which must be validated.
    pub(crate) fn new(config: RegistryConfig) -> Self {
        let urls = config.hosts.keys().filter_map(|host| base_url(host, false));
        let named = urls.filter_map(|url| url.host_str().map(str::to_owned)).collect();
        Self { config, named }
    }

    /// Whether a host that a reference or a mirror names may be asked.
    pub(crate) fn first(&self, url: &Url) -> Result<(), Refusal> {
        match address(url) {
            Some(address) if !self.is_named(url) => forbid(&authority(url), address),
            _ => Ok(()),
        }
    }

    /// Whether `to`, which `from` has named, may be asked.
    pub(crate) fn next(&self, from: &Url, to: &Url) -> Result<(), Refusal> {
        let from_host = authority(from);
        if !matches!(to.scheme(), "https" | "http") {
            return Err(Refusal::Scheme { from: from_host });
        }
        if !to.username().is_empty() || to.password().is_some() {
            return Err(Refusal::UserInfo { from: from_host });
        }
        if same_origin(from, to) {
            return Ok(());
        }
        let to_host = authority(to);
        if to.scheme() == "http" {
            if from.scheme() == "https" {
                return Err(Refusal::Downgrade { from: from_host, to: to_host });
            }
            if !self.config.plain_http(&to_host) {
                return Err(Refusal::PlainHttp { from: from_host, to: to_host });
            }
        }
        if self.is_named(to) {
            return Ok(());
        }
        if is_loopback_name(to) && !is_loopback_name(from) {
            let address = to.host_str().unwrap_or_default().to_owned();
            return Err(Refusal::Loopback { host: to_host, address });
        }
        address(to).map_or(Ok(()), |address| forbid(&to_host, address))
    }

    /// Whether `address`, which name servers gave for `host`, may be connected to.
    pub(crate) fn resolved(&self, host: &str, address: IpAddr) -> Result<(), Refusal> {
        if self.named.contains(host) {
            return Ok(());
        }
        if unmapped(address).is_loopback() && host != "localhost" {
            let address = address.to_string();
            return Err(Refusal::Loopback { host: host.to_owned(), address });
        }
        forbid(host, address)
    }

    fn is_named(&self, url: &Url) -> bool {
        self.config.hosts.contains_key(&authority(url))
    }
}

/// `https://host/` or `http://host/` for `host[:port]`.
pub(crate) fn base_url(host: &str, plain_http: bool) -> Option<Url> {
    let scheme = if plain_http { "http" } else { "https" };
    Url::parse(&format!("{scheme}://{host}/")).ok()
}

/// `host[:port]` of a URL, as the configuration names hosts.
pub(crate) fn authority(url: &Url) -> String {
    // Longer than any host name there is: such a one leads nowhere, and is not to be printed.
    let host = url.host_str().unwrap_or_default();
    let host = host.get(..260).unwrap_or(host);
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether credentials for the one may be sent to the other.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin() && a.origin().is_tuple()
}

/// The address that a URL spells out. The URL parser has already undone hexadecimal, octal and
/// shortened spellings.
fn address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

fn is_loopback_name(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        _ => address(url).is_some_and(|address| unmapped(address).is_loopback()),
    }
}

fn forbid(host: &str, address: IpAddr) -> Result<(), Refusal> {
    match forbidden(address) {
        Some(what) => Err(Refusal::Address { host: host.to_owned(), address, what }),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
