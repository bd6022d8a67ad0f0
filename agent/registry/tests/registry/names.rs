//! Names are resolved without the C library, and judged by where they lead.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use warmstep_registry::{Fault, Kind, Refusal, RegistryConfig};

use super::common::{Registry, module};
use super::name_server::NameServer;
use super::{UNASKED, config, limits, pull, refused, refused_with, registries};

#[tokio::test]
async fn localhost_and_configured_name_servers_work() {
    let registry = Registry::anonymous();
    let wasm = module(1, 500);
    registry.push("a", "1", &wasm);
    let (_, port) = registry.host.split_once(':').expect("a port");

    let localhost = format!("localhost:{port}");
    let (_, bytes) = pull(&registries(config(&[&localhost])), &format!("{localhost}/a:1"))
        .await
        .expect("pulled");
    assert!(bytes == wasm);

    let server = NameServer::start(&[("registry.test", Ipv4Addr::LOCALHOST)]).await;
    let named = format!("registry.test:{port}");
    let config = RegistryConfig { dns_servers: vec![server.address], ..config(&[&named]) };
    let (_, bytes) = pull(&registries(config), &format!("{named}/a:1")).await.expect("pulled");
    assert!(bytes == wasm);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_not_found() {
    let server = NameServer::start(&[]).await;
    let config = RegistryConfig {
        dns_servers: vec![server.address],
        limits: limits(),
        ..RegistryConfig::default()
    };
    let error = refused_with(&registries(config), "nowhere.test/a:1", "no host named").await;
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn silent_name_servers_are_not_waited_for_without_end() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let mut config = RegistryConfig {
        dns_servers: vec![silent.local_addr().expect("an address")],
        limits: limits(),
        ..RegistryConfig::default()
    };
    config.limits.resolve = Duration::from_secs(1);
    let start = Instant::now();
    let error = refused(&registries(config), "registry.test/a:1").await;
    assert!(matches!(error.kind(), Kind::Temporary { .. }));
    assert!(start.elapsed() < Duration::from_secs(3));
}

/// A name that anybody can register may lead to the node or to its cloud.
#[tokio::test]
async fn names_that_lead_inside_are_refused() {
    let server = NameServer::start(&[
        ("metadata.test", Ipv4Addr::new(169, 254, 169, 254)),
        ("node.test", Ipv4Addr::LOCALHOST),
        ("zero.test", Ipv4Addr::UNSPECIFIED),
    ])
    .await;
    let config = RegistryConfig {
        dns_servers: vec![server.address],
        limits: limits(),
        ..RegistryConfig::default()
    };
    let registries = registries(config);
    for (name, word) in [
        ("metadata.test", "metadata address (169.254.169.254)"),
        ("node.test", "is the node itself (127.0.0.1)"),
        ("zero.test", "unspecified"),
        ("169.254.169.254", "metadata address (169.254.169.254)"),
        ("[::ffff:a9fe:a9fe]:5000", "metadata address (::ffff:169.254.169.254)"),
    ] {
        let start = Instant::now();
        let error = refused_with(&registries, &format!("{name}/a:1"), word).await;
        assert!(matches!(
            error.fault(),
            Fault::Refusal(Refusal::Address { .. } | Refusal::Loopback { .. })
        ));
        assert_eq!(error.kind(), Kind::Refused);
        assert!(start.elapsed() < UNASKED, "no connection was tried");
    }
}
