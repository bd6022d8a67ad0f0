//! Names to addresses, without the C library: its own resolver wants shared libraries, which a
//! static program has not.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};

/// How long the absence of a name is believed: what has just been given a name should not be
/// unknown for as long as its zone says.
const MAX_NEGATIVE: Duration = Duration::from_secs(10);

/// Why a name gave no address.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NameError {
    /// The name servers say that it does not exist.
    #[error("no such name")]
    None,
    /// Anything else, such as silent name servers.
    #[error("its name cannot be resolved: {0}")]
    Failed(String),
}

/// A hosts file and name servers, as they are when this is made.
#[derive(Debug)]
pub struct Names {
    /// What `/etc/hosts` says, which comes first, as with every C library: a name server may be
    /// silent, and the search list of a pod is asked for each of its domains.
    hosts: Hosts,
    /// Or why there is none: what is named by address works without.
    resolver: Result<TokioResolver, String>,
}

impl Names {
    /// As `/etc/hosts` and `/etc/resolv.conf` say. Where there is no such file, the others' names
    /// fail: unlike elsewhere, no public name servers are asked instead, whom they do not concern.
    pub fn of_the_system() -> Self {
        let resolver = TokioResolver::builder_tokio()
            .map_err(|error| format!("/etc/resolv.conf: {error}"))
            .and_then(|builder| with_options(builder).map_err(|error| error.to_string()));
        Self { hosts: Hosts::from_system().unwrap_or_default(), resolver }
    }

    /// As these name servers say, without a hosts file.
    ///
    /// # Errors
    ///
    /// When no client can be made from them; the text is for people.
    pub fn of(servers: &[SocketAddr]) -> Result<Self, String> {
        let servers = servers.iter().map(|server| name_server(*server)).collect();
        let builder = TokioResolver::builder_with_config(
            ResolverConfig::from_parts(None, Vec::new(), servers),
            TokioRuntimeProvider::default(),
        );
        let resolver = with_options(builder).map_err(|error| error.to_string())?;
        Ok(Self { hosts: Hosts::default(), resolver: Ok(resolver) })
    }

    /// The addresses of a name, at least one.
    ///
    /// # Errors
    ///
    /// When there is no such name, or nobody says.
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, NameError> {
        let found = listed(&self.hosts, name);
        if !found.is_empty() {
            return Ok(found);
        }
        let resolver =
            self.resolver.as_ref().map_err(|reason| NameError::Failed(reason.clone()))?;
        match resolver.lookup_ip(name).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) if error.is_no_records_found() => Err(NameError::None),
            Err(error) => Err(NameError::Failed(error.to_string())),
        }
    }
}

type Builder = hickory_resolver::ResolverBuilder<TokioRuntimeProvider>;

fn with_options(mut builder: Builder) -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.negative_max_ttl = Some(MAX_NEGATIVE);
    builder.build()
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

/// What a hosts file says of a name.
fn listed(hosts: &Hosts, name: &str) -> Vec<IpAddr> {
    let Ok(name) = Name::from_utf8(name) else { return Vec::new() };
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let found = [RecordType::A, RecordType::AAAA].into_iter().filter_map(of);
    found
        .flat_map(|lookup| {
            lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>()
        })
        .collect()
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
