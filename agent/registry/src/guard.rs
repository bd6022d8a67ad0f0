//! Where requests may go: which schemes, which hosts, which addresses.
//!
//! A reference, a redirect and a token realm each let somebody outside choose where the agent
//! connects to. The agent sits in the node's network, so the answer is decided here, before a
//! connection is made, on the addresses that are then connected to.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

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

/// What kind of address this is, if it is of a kind that no registry has.
fn forbidden(address: IpAddr) -> Option<&'static str> {
    match unmapped(address) {
        IpAddr::V4(address) => forbidden_v4(address),
        IpAddr::V6(address) => forbidden_v6(address),
    }
}

/// Metadata services outside the link-local network: Azure's host, Alibaba's and Oracle's.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];

/// Metadata services over IPv6: Amazon's and Google's.
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        // "This network": Linux connects 0.0.0.0 to the node itself.
        [0, ..] => Some("an unspecified address"),
        [169, 254, ..] => Some("a link-local or metadata address"),
        _ if METADATA_V4.contains(&address) => Some("a metadata address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if address.is_broadcast() => Some("a broadcast address"),
        _ => None,
    }
}

fn forbidden_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("an unspecified address")
    } else if address.is_unicast_link_local() {
        Some("a link-local address")
    } else if METADATA_V6.contains(&address) {
        Some("a metadata address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else {
        None
    }
}

/// The IPv4 address inside an IPv6 one that leads to it: mapped (`::ffff:0:0/96`), compatible
/// (`::/96`), NAT64 (`64:ff9b::/96`, RFC 6052) and 6to4 (`2002::/16`, RFC 3056).
fn unmapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let octets = v6.octets();
    let inner =
        |at: usize| Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]);
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => inner(12).into(),
        [0x2002, ..] => inner(2).into(),
        _ => address,
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
