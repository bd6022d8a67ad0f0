//! Names to addresses, without the C library, past the guard.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
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
        Ok(Self { inner: Arc::new(Inner { resolver, guard }) })
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
        let resolver =
            self.resolver.as_ref().map_err(|reason| LookupError::Failed(reason.clone()))?;
        let found = resolver.lookup_ip(name).await.map_err(|error| {
            if error.is_no_records_found() {
                LookupError::NoName
            } else {
                LookupError::Failed(error.to_string())
            }
        })?;
        let mut refused = None;
        let mut allowed = Vec::new();
        for address in found.iter() {
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
