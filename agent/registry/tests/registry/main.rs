//! Pulling from real registries, and from servers that mean harm.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/fake.rs"]
mod fake;
#[path = "../common/name_server.rs"]
mod name_server;
#[path = "../common/pki.rs"]
mod pki;

mod access;
mod contents;
mod helpers;
mod hostile;
mod mirrors;
mod names;
mod real;
mod redirects;
mod retries;
mod tls;
mod tokens;

use std::io::Cursor;
use std::time::Duration;

use warmstep_registry::{
    HostConfig, Limits, Reference, Registries, RegistryConfig, RegistryError, Resolved,
};

/// Plain HTTP for these hosts, and limits at which a test fails rather than waits.
pub(crate) fn config(plain: &[&str]) -> RegistryConfig {
    let hosts = plain
        .iter()
        .map(|host| ((*host).to_owned(), HostConfig { plain_http: true, ..HostConfig::default() }))
        .collect();
    RegistryConfig { hosts, limits: limits(), ..RegistryConfig::default() }
}

/// Less than the time to connect: within it, no connection has been tried in vain.
pub(crate) const UNASKED: Duration = Duration::from_millis(1900);

pub(crate) fn limits() -> Limits {
    Limits {
        resolve: Duration::from_secs(10),
        pull: Duration::from_secs(10),
        connect: Duration::from_secs(2),
        idle: Duration::from_secs(2),
        ..Limits::default()
    }
}

pub(crate) fn registries(config: RegistryConfig) -> Registries {
    Registries::new(config).expect("a valid configuration")
}

pub(crate) fn reference(text: &str) -> Reference {
    text.parse().expect("a valid reference")
}

/// Resolves and pulls into memory.
pub(crate) async fn pull(
    registries: &Registries,
    text: &str,
) -> Result<(Resolved, Vec<u8>), RegistryError> {
    let resolved = registries.resolve(&reference(text)).await?;
    let mut sink = Cursor::new(Vec::new());
    registries.pull(&resolved, &mut sink, |_, _| ()).await?;
    Ok((resolved, sink.into_inner()))
}

/// Resolves and pulls what must not succeed. The error is one line that names the reference.
pub(crate) async fn refused(registries: &Registries, text: &str) -> RegistryError {
    let error = match pull(registries, text).await {
        Ok((resolved, _)) => panic!("{text} was pulled: {resolved:?}"),
        Err(error) => error,
    };
    let line = error.to_string();
    let name = text.split('@').next().unwrap_or_default();
    assert!(line.starts_with(name), "{line} should start with {name}");
    assert!(!line.contains('\n') && line.len() < 700, "{line} should be one line");
    println!("{line}");
    error
}

/// The same, with a word that the error must hold.
pub(crate) async fn refused_with(registries: &Registries, text: &str, word: &str) -> RegistryError {
    let error = refused(registries, text).await;
    assert!(error.to_string().contains(word), "{error} should say \"{word}\"");
    error
}
