//! What a module may connect to: pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use warmstep_addresses::{forbidden, unmapped};
use warmstep_wire::check;

/// The addresses that were granted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    addresses: Vec<SocketAddr>,
    names: Vec<(String, u16)>,
}

impl Reach {
    /// The reach of grants of the form `HOST:PORT`; what is of another form reaches nothing.
    pub(crate) fn new(grants: &[String]) -> Self {
        let mut reach = Self::default();
        for (host, port) in grants.iter().filter_map(|grant| check::address(grant)) {
            match host.parse::<IpAddr>() {
                Ok(address) => reach.addresses.push(SocketAddr::new(unmapped(address), port)),
                Err(_) => reach.names.push((plain(host), port)),
            }
        }
        reach
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.names.is_empty()
    }

    /// Whether names have to be resolved.
    pub(crate) fn has_names(&self) -> bool {
        !self.names.is_empty()
    }

    /// The ports that the kernel is told to let through.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let addresses = self.addresses.iter().map(SocketAddr::port);
        let ports: BTreeSet<u16> =
            addresses.chain(self.names.iter().map(|(_, port)| *port)).collect();
        ports.into_iter().collect()
    }

    /// Whether the address itself was granted.
    pub(crate) fn has_address(&self, peer: SocketAddr) -> bool {
        self.addresses.contains(&SocketAddr::new(unmapped(peer.ip()), peer.port()))
    }

    /// Whether any port of the address was granted.
    pub(crate) fn has_host(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|granted| granted.ip() == unmapped(address))
    }

    /// A granted name, as it was granted: only such a name is asked for, as a question can carry
    /// something out as well as a connection.
    pub(crate) fn name(&self, host: &str) -> Option<&str> {
        let host = plain(host);
        self.names.iter().map(|(name, _)| name.as_str()).find(|name| *name == host)
    }

    /// The granted names with this port.
    pub(crate) fn names_with(&self, port: u16) -> impl Iterator<Item = &str> {
        self.names
            .iter()
            .filter(move |(_, granted)| *granted == port)
            .map(|(name, _)| name.as_str())
    }
}

/// Whether a name may lead to an address. Whoever answers for the name says so; that must open
/// neither what listens on this host alone nor what serves a network's machines.
pub(crate) fn may_lead_to(name: &str, address: IpAddr) -> bool {
    let local = name == "localhost" || name.ends_with(".localhost");
    forbidden(address).is_none() && (local || !unmapped(address).is_loopback())
}

/// A name without what makes no difference.
fn plain(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(grants: &[&str]) -> Reach {
        Reach::new(&grants.iter().map(|grant| (*grant).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn an_address_is_granted_with_its_port_alone() {
        let reach = reach(&["10.0.0.1:80", "[::1]:8080"]);
        for (peer, expected) in [
            ("10.0.0.1:80", true),
            ("[::ffff:10.0.0.1]:80", true),
            ("10.0.0.1:81", false),
            ("10.0.0.2:80", false),
            ("[::1]:8080", true),
            ("[::1]:80", false),
        ] {
            assert_eq!(reach.has_address(peer.parse().unwrap()), expected, "{peer}");
        }
        assert_eq!(reach.ports(), [80, 8080]);
        assert!(!reach.has_names() && !reach.is_empty());
    }

    #[test]
    fn a_name_is_granted_however_it_is_spelt() {
        let reach = reach(&["API.example.:443", "api.example:8443", "other.example:443"]);
        assert_eq!(reach.name("api.EXAMPLE"), Some("api.example"));
        assert_eq!(reach.name("example"), None);
        assert_eq!(reach.name("secret.api.example"), None);
        assert_eq!(reach.names_with(443).collect::<Vec<_>>(), ["api.example", "other.example"]);
        assert_eq!(reach.names_with(80).count(), 0);
    }

    #[test]
    fn names_lead_neither_home_nor_to_metadata() {
        for (name, address, expected) in [
            ("api.example", "10.0.0.1", true),
            ("api.example", "127.0.0.1", false),
            ("api.example", "::ffff:127.0.0.1", false),
            ("api.example", "169.254.169.254", false),
            ("api.example", "0.0.0.0", false),
            ("localhost", "127.0.0.1", true),
            ("localhost", "169.254.169.254", false),
            ("a.localhost", "::1", true),
        ] {
            assert_eq!(may_lead_to(name, address.parse().unwrap()), expected, "{name} {address}");
        }
    }

    #[test]
    fn what_is_no_address_reaches_nothing() {
        assert!(reach(&["", "host", "host:", "host:0", "host:99999", "a b:1"]).is_empty());
    }
}
