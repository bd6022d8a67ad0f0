//! Mirrors: in order, verified, passed over when they fail, and shown no foreign credentials.

use std::time::{Duration, Instant};

use warmstep_registry::{HostConfig, Kind, RegistryConfig};

use super::access::docker_config;
use super::common::{Registry, digest, module};
use super::fake::{Artifact, Fake, Reply, head, reply};
use super::{config, pull, refused, refused_with, registries};

/// `registry` with these mirrors, all over plain HTTP.
fn mirrored(registry: &str, mirrors: &[&str]) -> RegistryConfig {
    let hosts: Vec<&str> = mirrors
        .iter()
        .map(|mirror| mirror.split('/').next().expect("a host"))
        .chain([registry])
        .collect();
    let mut config = config(&hosts);
    let settings = config.hosts.get_mut(registry).expect("just made");
    settings.mirrors = mirrors.iter().map(|mirror| (*mirror).to_owned()).collect();
    config
}

#[tokio::test]
async fn a_mirror_serves_and_the_registry_is_not_asked() {
    let mirror = Registry::anonymous();
    let wasm = module(1, 100_000);
    mirror.push("team/a", "1", &wasm);
    let origin = Fake::start(|_| reply(500, &[], b"")).await;
    let registries = registries(mirrored(&origin.host, &[&mirror.host]));
    let (_, bytes) = pull(&registries, &format!("{}/team/a:1", origin.host)).await.expect("pulled");
    assert!(bytes == wasm);
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_prefix_and_the_name_of_the_registry_are_sent() {
    let artifact = Artifact::new(&module(1, 1000));
    let cache = Fake::start(move |seen| artifact.serve(seen)).await;
    let mirror = format!("{}/hub/proxy", cache.host);
    let registries = registries(mirrored("registry.example", &[&mirror]));
    pull(&registries, "registry.example/team/a:1").await.expect("pulled");
    let asked: Vec<_> = cache.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(asked[0], "/v2/hub/proxy/team/a/manifests/1?ns=registry.example");
    assert!(asked[1].starts_with("/v2/hub/proxy/team/a/blobs/sha256:"), "{asked:?}");
}

#[tokio::test]
async fn mirrors_that_fail_are_passed_over_in_order() {
    let registry = Registry::anonymous();
    let wasm = module(1, 100_000);
    registry.push("a", "1", &wasm);
    let empty = Registry::anonymous();
    let broken = Fake::start(|_| reply(500, &[], b"")).await;
    let denying = Fake::start(|_| reply(403, &[], b"")).await;
    let down = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        gone.local_addr().expect("an address").to_string()
    };
    let config = mirrored(&registry.host, &[&down, &broken.host, &denying.host, &empty.host]);
    let text = format!("{}/a:1", registry.host);
    let (_, bytes) = pull(&registries(config), &text).await.expect("pulled");
    assert!(bytes == wasm);
    assert_eq!(broken.seen().len(), 2, "once for the manifest, once for the layer");
    assert_eq!(denying.seen().len(), 2);
}

/// By digest a mirror can change nothing, whatever it sends; not even after half of the layer.
#[tokio::test]
async fn a_mirror_cannot_slip_in_other_bytes() {
    let registry = Registry::anonymous();
    let wasm = module(1, 300_000);
    let pinned = registry.push("a", "1", &wasm);
    let evil = Artifact::new(&module(2, 300_000));
    let other_manifest = Fake::start(move |seen| evil.serve(seen)).await;

    let honest = {
        let config = super::common::config_of(&wasm);
        let kinds = (super::common::WASM_CONFIG, config.as_slice());
        let document = super::common::manifest(kinds, &[(super::common::WASM_LAYER, &wasm)]);
        document.to_string().into_bytes()
    };
    assert_eq!(digest(&honest), pinned);
    let mut flipped = wasm.clone();
    flipped[290_000] ^= 1;
    let serve = |layer: Vec<u8>| {
        let manifest = honest.clone();
        move |seen: &super::fake::Seen| {
            if seen.target.contains("/manifests/") {
                reply(200, &[], &manifest)
            } else {
                reply(200, &[], &layer)
            }
        }
    };
    let other_layer = Fake::start(serve(flipped)).await;
    let longer = Fake::start({
        let manifest = honest.clone();
        move |seen| {
            if seen.target.contains("/manifests/") {
                reply(200, &[], &manifest)
            } else {
                Reply::Endless(head(200, &[("Transfer-Encoding", "chunked")]))
            }
        }
    })
    .await;
    let mirrors = [other_manifest.host.as_str(), &other_layer.host, &longer.host];
    let registries = registries(mirrored(&registry.host, &mirrors));
    let text = format!("{}/a@{pinned}", registry.host);
    let (_, bytes) = pull(&registries, &text).await.expect("pulled from the registry");
    assert!(bytes == wasm, "exactly the module, though others wrote first");
    assert!(other_layer.seen().iter().any(|seen| seen.target.contains("/blobs/")));
}

#[tokio::test]
async fn tags_can_be_kept_from_mirrors() {
    let registry = Registry::anonymous();
    let wasm = module(1, 1000);
    let pinned = registry.push("a", "1", &wasm);
    let evil = Artifact::new(&module(2, 1000));
    let mirror = Fake::start(move |seen| evil.serve(seen)).await;
    let mut config = mirrored(&registry.host, &[&mirror.host]);
    let settings = config.hosts.get_mut(&registry.host).expect("configured");
    settings.mirrors_by_digest_only = true;
    let registries = registries(config);
    let (resolved, bytes) =
        pull(&registries, &format!("{}/a:1", registry.host)).await.expect("pulled");
    assert!(bytes == wasm);
    assert_eq!(resolved.manifest().to_string(), pinned);
    let asked: Vec<_> = mirror.seen().into_iter().map(|seen| seen.target).collect();
    assert!(asked.iter().all(|target| target.contains("sha256:")), "{asked:?}");
}

#[tokio::test]
async fn a_mirror_is_shown_its_own_credentials_only() {
    let artifact = Artifact::new(&module(1, 1000));
    let ask = || reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], b"");
    let mirror = Fake::start(move |_| ask()).await;
    let registry = Fake::start(move |seen| match seen.header("authorization") {
        Some(_) => artifact.serve(seen),
        None => ask(),
    })
    .await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.json");
    docker_config(&path, &registry.host, "alice", "sesame");
    let mut config = mirrored(&registry.host, &[&mirror.host]);
    config.docker_config = Some(path);
    pull(&registries(config), &format!("{}/a:1", registry.host)).await.expect("pulled");
    assert!(!mirror.seen().is_empty() && !mirror.was_shown_credentials());
    assert!(registry.was_shown_credentials());
}

#[tokio::test]
async fn a_slow_mirror_leaves_time_for_the_registry() {
    let registry = Registry::anonymous();
    let wasm = module(1, 1000);
    registry.push("a", "1", &wasm);
    let slow = Fake::start(|_| Reply::Silence).await;
    let mut config = mirrored(&registry.host, &[&slow.host]);
    config.limits.resolve = Duration::from_secs(2);
    config.limits.pull = Duration::from_secs(2);
    let start = Instant::now();
    let text = format!("{}/a:1", registry.host);
    let (_, bytes) = pull(&registries(config), &text).await.expect("pulled");
    assert!(bytes == wasm);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test]
async fn when_all_fail_the_registry_has_the_last_word() {
    let registry = Registry::anonymous();
    let mirror = Fake::start(|_| reply(500, &[], b"")).await;
    let registries = registries(mirrored(&registry.host, &[&mirror.host]));
    let text = format!("{}/a:1", registry.host);
    let error = refused_with(&registries, &text, "its mirror failed before").await;
    assert_eq!(error.kind(), Kind::NotFound);
}

/// A mirror of a host that needs TLS stays on TLS unless it is configured otherwise itself.
#[tokio::test]
async fn a_mirror_is_plain_http_only_by_its_own_setting() {
    let mirror = Fake::start(|_| reply(500, &[], b"")).await;
    let mut config = config(&[]);
    let settings = HostConfig { mirrors: vec![mirror.host.clone()], ..HostConfig::default() };
    config.hosts.insert("127.0.0.1:1".to_owned(), settings);
    config.limits.attempts = 1;
    refused(&registries(config), "127.0.0.1:1/a:1").await;
    assert!(mirror.seen().is_empty(), "no request was made in the clear: {:?}", mirror.seen());
}
