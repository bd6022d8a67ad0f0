//! The module's network: connections to what was granted, and nothing else.
//!
//! A connection is made by virtual-net's host network, behind this gate. Nothing listens, nothing is
//! bound, and no datagram is sent: a grant is an address to connect to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use virtual_net::host::LocalNetworking;
use virtual_net::{
    DynVirtualNetworking, NetworkError, Result, UnsupportedVirtualNetworking, VirtualIcmpSocket,
    VirtualNetworking, VirtualRawSocket, VirtualTcpBoundSocket, VirtualTcpListener,
    VirtualTcpSocket, VirtualUdpSocket,
};
use warmstep_addresses::Names;
use warmstep_host::ending;

use crate::reach::{Reach, may_lead_to};

/// The network of a step with these grants; `names` are there if they have any.
pub(crate) fn of(reach: Reach, names: Option<Names>) -> DynVirtualNetworking {
    if reach.is_empty() {
        return Arc::new(UnsupportedVirtualNetworking::default());
    }
    let host = LocalNetworking::new();
    Arc::new(GrantedNetwork { reach, names, host, told: Mutex::default() })
}

#[derive(Debug)]
struct GrantedNetwork {
    reach: Reach,
    names: Option<Names>,
    host: LocalNetworking,
    /// What the module was last told of each name: name servers answer in turns, and it may connect
    /// to what it was told although they would say something else by now.
    told: Mutex<BTreeMap<String, Vec<IpAddr>>>,
}

impl GrantedNetwork {
    /// The addresses of a granted name to which it may lead.
    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>> {
        let names = self.names.as_ref().ok_or(NetworkError::PermissionDenied)?;
        let found = names.resolve(name).await.map_err(|error| {
            ending::complain(format!("{name}: {error}"));
            NetworkError::AddressNotAvailable
        })?;
        let usable: Vec<IpAddr> =
            found.iter().copied().filter(|address| may_lead_to(name, *address)).collect();
        match (usable.is_empty(), found.first()) {
            (true, Some(address)) => {
                ending::complain(format!("the name {name} leads to {address}, where no name may"));
                Err(NetworkError::PermissionDenied)
            }
            _ => Ok(usable),
        }
    }

    fn was_told(&self, name: &str, address: IpAddr) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(name).is_some_and(|told| told.contains(&address))
    }

    /// Whether the module may connect to an address: it was granted, or a granted name leads there.
    async fn allows(&self, peer: SocketAddr) -> bool {
        if self.reach.has_address(peer) {
            return true;
        }
        for name in self.reach.names_with(peer.port()) {
            let leads_there = match self.lookup(name).await {
                Ok(found) => found.contains(&peer.ip()),
                Err(_) => false,
            };
            if leads_there || self.was_told(name, peer.ip()) {
                return true;
            }
        }
        false
    }
}

fn refused<T>(what: &str) -> Result<T> {
    ending::complain(format!("the module tried to {what}, which was not granted (see --net)"));
    Err(NetworkError::PermissionDenied)
}

#[async_trait::async_trait]
impl VirtualNetworking for GrantedNetwork {
    async fn connect_tcp(
        &self,
        address: SocketAddr,
        peer: SocketAddr,
    ) -> Result<Box<dyn VirtualTcpSocket + Sync>> {
        if self.allows(peer).await {
            self.host.connect_tcp(address, peer).await
        } else {
            refused(&format!("connect to {peer}"))
        }
    }

    async fn resolve(&self, host: &str, _: Option<u16>, _: Option<IpAddr>) -> Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            let granted = self.reach.has_host(address);
            return if granted { Ok(vec![address]) } else { refused(&format!("reach {address}")) };
        }
        let Some(name) = self.reach.name(host) else {
            return refused(&format!("resolve the name {host:?}"));
        };
        let found = self.lookup(name).await?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(name.to_owned(), found.clone());
        Ok(found)
    }

    async fn bind_tcp(
        &self,
        address: SocketAddr,
        _: bool,
        _: bool,
        _: bool,
    ) -> Result<Box<dyn VirtualTcpBoundSocket + Sync>> {
        refused(&format!("bind a socket to {address}"))
    }

    async fn listen_tcp(
        &self,
        address: SocketAddr,
        _: bool,
        _: bool,
        _: bool,
    ) -> Result<Box<dyn VirtualTcpListener + Sync>> {
        refused(&format!("listen on {address}"))
    }

    async fn bind_udp(
        &self,
        address: SocketAddr,
        _: bool,
        _: bool,
    ) -> Result<Box<dyn VirtualUdpSocket + Sync>> {
        refused(&format!("use datagrams from {address}"))
    }

    async fn bind_icmp(&self, _: IpAddr) -> Result<Box<dyn VirtualIcmpSocket + Sync>> {
        refused("use ICMP")
    }

    async fn bind_raw(&self) -> Result<Box<dyn VirtualRawSocket + Sync>> {
        refused("use raw sockets")
    }
}
