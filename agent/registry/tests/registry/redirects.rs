//! S8 of the threat list: where redirects may lead, and that credentials do not follow.

use std::net::Ipv4Addr;
use std::time::Instant;

use warmstep_registry::{HostConfig, Kind, RegistryConfig};

use super::access::docker_config;
use super::common::module;
use super::fake::{Artifact, Fake, redirect, reply};
use super::name_server::NameServer;
use super::pki::Authority;
use super::{UNASKED, config, limits, pull, refused_with, registries};

const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// A registry that wants a password, and then redirects its layers to `location`.
async fn redirecting(artifact: &Artifact, status: u16, location: String) -> Fake {
    let artifact = artifact.clone();
    Fake::start(move |seen| {
        if seen.header("authorization").is_none() {
            reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], b"")
        } else if seen.target.contains("/blobs/") {
            redirect(status, &location)
        } else {
            artifact.serve(seen)
        }
    })
    .await
}

fn with_password(config: RegistryConfig, host: &str) -> (RegistryConfig, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.json");
    docker_config(&path, host, "alice", "sesame");
    (RegistryConfig { docker_config: Some(path), ..config }, directory)
}

#[tokio::test]
async fn another_host_gets_the_request_without_the_password() {
    let artifact = Artifact::new(&module(1, 50_000));
    for status in STATUSES {
        let served = artifact.clone();
        let storage = Fake::start(move |seen| {
            // As signed storage addresses do when credentials come on top of the signature.
            match seen.header("authorization") {
                None => served.serve(seen),
                Some(_) => reply(400, &[], b"only one auth mechanism allowed"),
            }
        })
        .await;
        let digest = super::common::digest(&artifact.layer);
        let location = format!("http://{}/store/{digest}?signature=x", storage.host);
        let registry = redirecting(&artifact, status, location).await;
        let (config, _directory) =
            with_password(config(&[&registry.host, &storage.host]), &registry.host);
        let (_, bytes) =
            pull(&registries(config), &format!("{}/a:1", registry.host)).await.expect("pulled");
        assert!(bytes == artifact.layer);
        assert!(registry.was_shown_credentials(), "the registry itself");
        assert_eq!(storage.seen().len(), 1);
        assert!(!storage.was_shown_credentials(), "{status}: {:?}", storage.seen());
    }
}

#[tokio::test]
async fn a_redirect_within_the_host_keeps_the_password() {
    let artifact = Artifact::new(&module(1, 50_000));
    let served = artifact.clone();
    let registry = Fake::start(move |seen| {
        if seen.header("authorization").is_none() {
            reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], b"")
        } else if seen.target.contains("/v2/a/blobs/") {
            redirect(307, &seen.target.replace("/v2/a/blobs/", "/moved/"))
        } else {
            served.serve(seen)
        }
    })
    .await;
    let (config, _directory) = with_password(config(&[&registry.host]), &registry.host);
    let (_, bytes) =
        pull(&registries(config), &format!("{}/a:1", registry.host)).await.expect("pulled");
    assert!(bytes == artifact.layer);
}

/// Out and back again: the password stays away, since who was in between chose the address.
#[tokio::test]
async fn a_redirect_back_does_not_bring_the_password_back() {
    let artifact = Artifact::new(&module(1, 50_000));
    let back = Fake::start(|seen| {
        let origin = seen.target.split_once("origin=").expect("a query").1.to_owned();
        redirect(302, &format!("http://{origin}/collect"))
    })
    .await;
    let location = format!("http://{}/?origin=ORIGIN", back.host);
    let served = artifact.clone();
    let registry = Fake::start(move |seen| {
        let host = seen.header("host").expect("a host").to_owned();
        if seen.target == "/collect" || seen.header("authorization").is_none() {
            reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], b"")
        } else if seen.target.contains("/blobs/") {
            redirect(302, &location.replace("ORIGIN", &host))
        } else {
            served.serve(seen)
        }
    })
    .await;
    let (config, _directory) = with_password(config(&[&registry.host, &back.host]), &registry.host);
    let text = format!("{}/a:1", registry.host);
    refused_with(&registries(config), &text, "redirected there").await;
    let collected: Vec<_> =
        registry.seen().into_iter().filter(|seen| seen.target == "/collect").collect();
    assert_eq!(collected.len(), 1);
    assert!(collected.iter().all(|seen| seen.header("authorization").is_none()));
    assert!(!back.was_shown_credentials());
}

#[tokio::test]
async fn another_host_that_asks_for_a_password_gets_none() {
    let artifact = Artifact::new(&module(1, 50_000));
    let greedy =
        Fake::start(|_| reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], b"")).await;
    let location = format!("http://{}/", greedy.host);
    let registry = redirecting(&artifact, 302, location).await;
    let (config, directory) =
        with_password(config(&[&registry.host, &greedy.host]), &registry.host);
    // Even where the config has a password for the greedy host.
    docker_config(&directory.path().join("other.json"), &greedy.host, "bob", "secret");
    let text = format!("{}/a:1", registry.host);
    let error = refused_with(&registries(config), &text, "credentials are not sent").await;
    assert_eq!(error.kind(), Kind::Refused);
    assert!(!greedy.was_shown_credentials());
}

#[tokio::test]
async fn addresses_inside_are_refused_unasked() {
    let artifact = Artifact::new(&module(1, 50_000));
    let names = NameServer::start(&[
        ("metadata.test", Ipv4Addr::new(169, 254, 169, 254)),
        ("node.test", Ipv4Addr::LOCALHOST),
    ])
    .await;
    for (location, word) in [
        ("http://169.254.169.254/latest/meta-data/iam/", "plain HTTP"),
        ("https://169.254.169.254/latest/", "link-local or metadata address (169.254.169.254)"),
        ("https://2852039166/latest/", "link-local or metadata address (169.254.169.254)"),
        ("https://[::ffff:a9fe:a9fe]/latest/", "link-local or metadata"),
        ("https://metadata.test/latest/", "link-local or metadata address (169.254.169.254)"),
        ("https://node.test:10250/pods", "the node itself (127.0.0.1)"),
        ("https://100.100.100.200/latest/", "a metadata address"),
        ("https://0.0.0.0:10250/pods", "unspecified"),
        ("http://storage.test/x", "plain HTTP"),
        ("//169.254.169.254/latest/", "plain HTTP"),
        ("file:///etc/passwd", "neither https nor http"),
        ("gopher://127.0.0.1/", "neither https nor http"),
        ("https://alice:sesame@storage.test/", "user name or a password"),
        ("http://", "a redirect to nowhere"),
    ] {
        let registry = redirecting(&artifact, 307, location.to_owned()).await;
        let (mut config, _directory) = with_password(config(&[&registry.host]), &registry.host);
        config.dns_servers = vec![names.address];
        let start = Instant::now();
        refused_with(&registries(config), &format!("{}/a:1", registry.host), word).await;
        assert!(start.elapsed() < UNASKED, "{location}: no connection was tried");
    }
}

#[tokio::test]
async fn tls_is_never_given_up() {
    let artifact = Artifact::new(&module(1, 50_000));
    let storage = Fake::start(|_| reply(200, &[], b"")).await;
    let authority = Authority::new();
    let identity = authority.sign("127.0.0.1");
    let location = format!("http://{}/", storage.host);
    let registry = Fake::start_tls(identity.acceptor(), move |seen| {
        if seen.target.contains("/blobs/") {
            redirect(302, &location)
        } else {
            artifact.serve(seen)
        }
    })
    .await;
    // Not even to a host that may be spoken to in plain HTTP.
    let mut config = config(&[&storage.host]);
    let ca = HostConfig { ca: Some(authority.ca.clone()), ..HostConfig::default() };
    config.hosts.insert(registry.host.clone(), ca);
    let error = refused_with(
        &registries(config),
        &format!("{}/a:1", registry.host),
        "which would undo its TLS",
    )
    .await;
    assert_eq!(error.kind(), Kind::Refused);
    assert!(storage.seen().is_empty(), "nobody was asked");
}

#[tokio::test]
async fn circles_end() {
    let registry = Fake::start(|seen| redirect(302, &format!("{}x", seen.target))).await;
    let registries = registries(RegistryConfig { limits: limits(), ..config(&[&registry.host]) });
    refused_with(&registries, &format!("{}/a:1", registry.host), "more than 5 redirects").await;
    assert_eq!(registry.seen().len(), 6);
}
