//! Names to addresses, without the C library, past the guard.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name as DnsName, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use hyper_util::client::legacy::connect::dns::Name;

use crate::config::ConfigError;
use crate::guard::{Guard, Refusal};

/// How long the absence of a name is believed: a registry that has just been given a name should
/// not be unknown for as long as its zone says.
const MAX_NEGATIVE: Duration = Duration::from_secs(10);

/// Resolves names for the HTTP connector.
#[derive(Clone)]
pub(crate) struct Resolver {
    inner: Arc<Inner>,
}

struct Inner {
    /// What `/etc/hosts` says, which comes first, as with every C library: a name server may be
    /// silent, and the search list of a pod is asked for each of its domains.
    hosts: Hosts,
    /// Or why there is none: registries named by address still work then.
    resolver: Result<TokioResolver, String>,
    guard: Arc<Guard>,
}

/// Why a name gave no address.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LookupError {
    /// The name servers say that it does not exist.
    #[error("no such name")]
    NoName,
    /// Where it leads, no request may go.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Anything else, such as silent name servers.
    #[error("its name cannot be resolved: {0}")]
    Failed(String),
}

impl Resolver {
    /// A resolver that asks `servers`, or those of `/etc/resolv.conf`.
    pub(crate) fn new(servers: &[SocketAddr], guard: Arc<Guard>) -> Result<Self, ConfigError> {
        let builder = if servers.is_empty() {
            TokioResolver::builder_tokio()
        } else {
            let servers = servers.iter().map(|server| name_server(*server)).collect();
            Ok(TokioResolver::builder_with_config(
                ResolverConfig::from_parts(None, Vec::new(), servers),
                TokioRuntimeProvider::default(),
            ))
        };
        let resolver = match builder {
            Ok(mut builder) => {
                let options = builder.options_mut();
                options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
                options.negative_max_ttl = Some(MAX_NEGATIVE);
                Ok(builder.build().map_err(|error| ConfigError::Dns(error.to_string()))?)
            }
            // Unlike others, no public name servers are asked instead: the names of somebody's
            // registries are nobody else's business.
            Err(error) => Err(format!("/etc/resolv.conf: {error}")),
        };
        // Without such a file, and where other servers are asked than the system's, there are none.
        let hosts = if servers.is_empty() { Hosts::from_system().ok() } else { None };
        Ok(Self { inner: Arc::new(Inner { hosts: hosts.unwrap_or_default(), resolver, guard }) })
    }
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(server.ip());
    config.connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .into_iter()
        .map(|mut connection| {
            connection.port = server.port();
            connection
        })
        .collect();
    config
}

impl Inner {
    async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, LookupError> {
        let mut found = listed(&self.hosts, name);
        if found.is_empty() {
            found = self.ask(name).await?;
        }
        let mut refused = None;
        let mut allowed = Vec::new();
        for address in found {
            match self.guard.resolved(name, address) {
                Ok(()) => allowed.push(SocketAddr::new(address, 0)),
                Err(refusal) => refused = Some(refusal),
            }
        }
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, Some(refusal)) => Err(refusal.into()),
            (true, None) => Err(LookupError::NoName),
        }
    }
}

impl Inner {
    /// What the name servers say.
    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let resolver =
            self.resolver.as_ref().map_err(|reason| LookupError::Failed(reason.clone()))?;
        match resolver.lookup_ip(name).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) if error.is_no_records_found() => Err(LookupError::NoName),
            Err(error) => Err(LookupError::Failed(error.to_string())),
        }
    }
}

/// What a hosts file says of a name.
fn listed(hosts: &Hosts, name: &str) -> Vec<IpAddr> {
    let Ok(name) = DnsName::from_utf8(name) else { return Vec::new() };
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let found = [RecordType::A, RecordType::AAAA].into_iter().filter_map(of);
    found
        .flat_map(|lookup| {
            lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>()
        })
        .collect()
}

impl tower_service::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = LookupError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, LookupError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LookupError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { Ok(inner.resolve(name.as_str()).await?.into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_comes_first() {
        // Every system's names this machine; no name server is asked.
        let hosts = Hosts::from_system().expect("/etc/hosts");
        assert!(listed(&hosts, "localhost").iter().any(IpAddr::is_loopback));
        assert!(listed(&hosts, "nowhere.invalid").is_empty());
        assert!(listed(&Hosts::default(), "localhost").is_empty());
    }
}
