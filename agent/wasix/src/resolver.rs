//! Names to addresses, as the pod resolves them.

use std::net::IpAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;

/// The resolver of the pod, by its `/etc/resolv.conf` and `/etc/hosts`, which are read when it is
/// made. The C library's own wants shared libraries, which a static program has not.
#[derive(Debug)]
pub(crate) struct Resolver(Result<TokioResolver, String>);

impl Resolver {
    /// Reads the pod's configuration.
    pub(crate) fn of_the_pod() -> Self {
        let resolver = TokioResolver::builder_tokio()
            .map_err(|error| format!("/etc/resolv.conf: {error}"))
            .and_then(|mut builder| {
                builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
                builder.build().map_err(|error| error.to_string())
            });
        Self(resolver)
    }

    /// The addresses of a name; the error is for people.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let resolver = self.0.as_ref().map_err(Clone::clone)?;
        let found = resolver.lookup_ip(name).await.map_err(|error| error.to_string())?;
        Ok(found.iter().collect())
    }
}
