//! The HTTP connector's names, past the guard.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use warmstep_addresses::{NameError, Names};

use crate::config::ConfigError;
use crate::guard::{Guard, Refusal};

/// Resolves names for the HTTP connector.
#[derive(Clone)]
pub(crate) struct Resolver {
    names: Arc<Names>,
    guard: Arc<Guard>,
}

/// Why a name gave no address.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LookupError {
    /// It gave none at all.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Where it leads, no request may go.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Resolver {
    /// A resolver that asks `servers`, or those of `/etc/resolv.conf`.
    pub(crate) fn new(servers: &[SocketAddr], guard: Arc<Guard>) -> Result<Self, ConfigError> {
        let names = match servers {
            [] => Names::of_the_system(),
            servers => Names::of(servers).map_err(ConfigError::Dns)?,
        };
        Ok(Self { names: Arc::new(names), guard })
    }

    async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, LookupError> {
        let mut refused = None;
        let mut allowed = Vec::new();
        for address in self.names.resolve(name).await? {
            match self.guard.resolved(name, address) {
                Ok(()) => allowed.push(SocketAddr::new(address, 0)),
                Err(refusal) => refused = Some(refusal),
            }
        }
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, Some(refusal)) => Err(refusal.into()),
            (true, None) => Err(NameError::None.into()),
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
        let own = self.clone();
        Box::pin(async move { Ok(own.resolve(name.as_str()).await?.into_iter()) })
    }
}
