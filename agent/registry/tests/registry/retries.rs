//! Failures that pass are tried again, a few times and not for ever.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use warmstep_registry::Kind;

use super::common::module;
use super::fake::{Artifact, Fake, Reply, Seen, head, reply};
use super::{config, pull, refused, refused_with, registries};

/// A registry whose first `failures` answers for `what` are `failure`'s.
async fn failing(
    artifact: &Artifact,
    what: &'static str,
    failures: usize,
    failure: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) -> Fake {
    let artifact = artifact.clone();
    let failed = AtomicUsize::new(0);
    Fake::start(move |seen| {
        let fails = seen.target.contains(what)
            && failed
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| {
                    (n < failures).then_some(n + 1)
                })
                .is_ok();
        if fails { failure(seen) } else { artifact.serve(seen) }
    })
    .await
}

#[tokio::test]
async fn passing_failures_pass() {
    let artifact = Artifact::new(&module(1, 200_000));
    for what in ["/manifests/", "/blobs/"] {
        for status in [408, 429, 500, 502, 503, 504] {
            let fake = failing(&artifact, what, 2, move |_| reply(status, &[], b"")).await;
            let registries = registries(config(&[&fake.host]));
            let (_, bytes) =
                pull(&registries, &format!("{}/a:1", fake.host)).await.expect("the third time");
            assert!(bytes == artifact.layer, "{what} {status}");
        }
    }
}

/// The second attempt writes over what the first has left.
#[tokio::test]
async fn a_cut_layer_starts_again() {
    let artifact = Artifact::new(&module(1, 200_000));
    let length = artifact.layer.len().to_string();
    let mut broken = head(200, &[("Content-Length", &length)]);
    broken.extend_from_slice(&artifact.layer[..120_000]);
    let fake = failing(&artifact, "/blobs/", 1, move |_| Reply::Raw(broken.clone())).await;
    let registries = registries(config(&[&fake.host]));
    let (_, bytes) = pull(&registries, &format!("{}/a:1", fake.host)).await.expect("pulled");
    assert!(bytes == artifact.layer);
}

#[tokio::test]
async fn lasting_failures_last_a_few_attempts() {
    let artifact = Artifact::new(&module(1, 1000));
    let fake = failing(&artifact, "", usize::MAX, |_| reply(503, &[], b"maintenance")).await;
    let start = Instant::now();
    let text = format!("{}/a:1", fake.host);
    let error =
        refused_with(&registries(config(&[&fake.host])), &text, "answered 503: maintenance").await;
    assert_eq!(error.kind(), Kind::Temporary { retry_after: None });
    assert_eq!(fake.seen().len(), 3);
    assert!(start.elapsed() < Duration::from_secs(3));
    for status in [400, 403, 404, 405, 410, 501] {
        let fake = failing(&artifact, "", usize::MAX, move |_| reply(status, &[], b"")).await;
        refused(&registries(config(&[&fake.host])), &format!("{}/a:1", fake.host)).await;
        assert_eq!(fake.seen().len(), 1, "{status} will not pass");
    }
}

#[tokio::test]
async fn retry_after_is_obeyed_within_reason() {
    let artifact = Artifact::new(&module(1, 1000));
    let wait =
        failing(&artifact, "/manifests/", 1, |_| reply(429, &[("Retry-After", "1")], b"")).await;
    let start = Instant::now();
    pull(&registries(config(&[&wait.host])), &format!("{}/a:1", wait.host)).await.expect("pulled");
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());

    for (value, seconds) in [("3600", 3600), ("11", 11), ("18446744073709551615", u64::MAX)] {
        let fake =
            failing(&artifact, "", usize::MAX, move |_| reply(429, &[("Retry-After", value)], b""))
                .await;
        let start = Instant::now();
        let error =
            refused(&registries(config(&[&fake.host])), &format!("{}/a:1", fake.host)).await;
        let retry_after = Some(Duration::from_secs(seconds));
        assert_eq!(error.kind(), Kind::Temporary { retry_after }, "the caller is told");
        assert_eq!(fake.seen().len(), 1);
        assert!(start.elapsed() < Duration::from_secs(5), "and nobody waits here");
    }
    for value in ["soon", "-1", "Wed, 21 Oct 2015 07:28:00 GMT"] {
        let fake = failing(&artifact, "/manifests/", 1, move |_| {
            reply(503, &[("Retry-After", value)], b"")
        })
        .await;
        pull(&registries(config(&[&fake.host])), &format!("{}/a:1", fake.host))
            .await
            .expect("nonsense and the past are no reason to wait long");
    }
}

#[tokio::test]
async fn an_unreachable_registry_is_said_to_be() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("an address").to_string()
    };
    let text = format!("{gone}/a:1");
    let error = refused_with(&registries(config(&[&gone])), &text, "connection refused").await;
    assert!(matches!(error.kind(), Kind::Temporary { .. }));

    // A documentation address: nothing answers there, in whatever way the network has it.
    let mut config = config(&["192.0.2.1:5000"]);
    config.limits.connect = Duration::from_millis(300);
    config.limits.attempts = 1;
    let start = Instant::now();
    let error = refused_with(&registries(config), "192.0.2.1:5000/a:1", "cannot reach").await;
    assert!(matches!(error.kind(), Kind::Temporary { .. }));
    assert!(start.elapsed() < Duration::from_secs(3));
}
