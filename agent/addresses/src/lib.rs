//! What names lead to, and which addresses none may lead to.
//!
//! Whoever owns a name decides where it leads. The agent's pulls and a step's connections are made
//! within the node's network, so both look at the address itself before they connect.

#![forbid(unsafe_code)]

mod names;

pub use names::{NameError, Names};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of address this is, if it is of a kind that no service has which a name may lead to.
pub fn forbidden(address: IpAddr) -> Option<&'static str> {
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
pub fn unmapped(address: IpAddr) -> IpAddr {
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
mod tests {
    use super::*;

    #[test]
    fn disguises_are_seen_through() {
        for (address, expected) in [
            ("169.254.169.254", true),
            ("::ffff:169.254.169.254", true),
            ("64:ff9b::a9fe:a9fe", true),
            ("2002:a9fe:a9fe::1", true),
            ("0.0.0.0", true),
            ("::", true),
            ("fe80::1", true),
            ("fd00:ec2::254", true),
            ("255.255.255.255", true),
            ("ff02::1", true),
            ("10.0.0.1", false),
            ("127.0.0.1", false),
            ("2001:db8::1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(forbidden(address).is_some(), expected, "{address}");
        }
    }
}
