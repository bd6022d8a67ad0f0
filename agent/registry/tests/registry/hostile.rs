//! S1 and S2 of the threat list: wrong bytes, too few, too many, too slow.

use std::io::Cursor;
use std::time::{Duration, Instant};

use warmstep_registry::{Kind, Resolved};

use super::common::{digest, module};
use super::fake::{Artifact, Fake, Reply, Seen, chunk, head, reply};
use super::{config, reference, refused, refused_with, registries};

/// A registry that serves the manifest and answers for the layer as `layer` says.
async fn layer_of(
    artifact: &Artifact,
    layer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) -> Fake {
    let artifact = artifact.clone();
    Fake::start(
        move |seen| {
            if seen.target.contains("/blobs/") { layer(seen) } else { artifact.serve(seen) }
        },
    )
    .await
}

/// What the attempt to pull leaves behind.
async fn attempt(fake: &Fake) -> (Resolved, Vec<u8>, warmstep_registry::RegistryError) {
    let mut config = config(&[&fake.host]);
    config.limits.attempts = 1;
    let registries = registries(config);
    let resolved = registries
        .resolve(&reference(&format!("{}/a:1", fake.host)))
        .await
        .expect("the manifest is honest");
    let mut sink = Cursor::new(Vec::new());
    let error = registries
        .pull(&resolved, &mut sink, |done, total| assert!(done <= total))
        .await
        .expect_err("the layer is not");
    println!("{error}");
    (resolved, sink.into_inner(), error)
}

#[tokio::test]
async fn other_bytes_of_the_same_length_are_refused() {
    let artifact = Artifact::new(&module(1, 100_000));
    let mut other = artifact.layer.clone();
    other[60_000] ^= 1;
    let fake = layer_of(&artifact, move |_| reply(200, &[], &other)).await;
    let (_, _, error) = attempt(&fake).await;
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains("sent other bytes"), "{error}");
}

#[tokio::test]
async fn a_manifest_must_have_the_digest_asked_for() {
    let wanted = Artifact::new(&module(1, 1000));
    let other = Artifact::new(&module(2, 1000));
    let fake = Fake::start(move |seen| other.serve(seen)).await;
    let registries_ = registries(config(&[&fake.host]));
    let text = format!("{}/a@{}", fake.host, digest(&wanted.manifest));
    let error = refused_with(&registries_, &text, "sent other bytes").await;
    assert_eq!(error.kind(), Kind::Refused);

    let other = Artifact::new(&module(2, 1000));
    let claim = digest(&wanted.manifest);
    let fake =
        Fake::start(move |_| reply(200, &[("Docker-Content-Digest", &claim)], &other.manifest))
            .await;
    let registries = registries(config(&[&fake.host]));
    refused_with(&registries, &format!("{}/a:1", fake.host), "sent other bytes").await;
}

#[tokio::test]
async fn a_length_that_contradicts_the_manifest_is_refused_unread() {
    let artifact = Artifact::new(&module(1, 100_000));
    for length in [0, 99_000, 1 << 40] {
        let fake = layer_of(&artifact, move |_| {
            Reply::Raw(head(200, &[("Content-Length", &length.to_string())]))
        })
        .await;
        let (_, sink, error) = attempt(&fake).await;
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.to_string().contains("where the manifest promises"), "{error}");
        assert!(sink.is_empty());
    }
}

#[tokio::test]
async fn an_endless_body_is_cut_at_the_size() {
    let artifact = Artifact::new(&module(1, 100_000));
    for framing in [&[("Transfer-Encoding", "chunked")][..], &[]] {
        let start = chunk(&artifact.layer[..1000]);
        let mut begin = head(200, framing);
        // Without chunks the framing would be content, so the content starts with the module.
        begin.extend_from_slice(if framing.is_empty() { &artifact.layer } else { &start });
        let fake = layer_of(&artifact, move |_| Reply::Endless(begin.clone())).await;
        let start = Instant::now();
        let (resolved, sink, error) = attempt(&fake).await;
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.to_string().contains("sent more where"), "{error}");
        assert!(sink.len() as u64 <= resolved.size(), "{} bytes are written", sink.len());
        assert!(start.elapsed() < Duration::from_secs(5));
        // What the sockets hold, and no more.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let sent = fake.sent();
        assert!(sent < 16 << 20, "{sent} bytes were taken");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(fake.sent(), sent, "the connection is closed");
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_refused_or_temporary() {
    let artifact = Artifact::new(&module(1, 100_000));
    let half = artifact.layer[..50_000].to_vec();

    // The connection breaks: that may pass.
    let length = artifact.layer.len().to_string();
    let mut broken = head(200, &[("Content-Length", &length)]);
    broken.extend_from_slice(&half);
    let fake = layer_of(&artifact, move |_| Reply::Raw(broken.clone())).await;
    let (_, sink, error) = attempt(&fake).await;
    assert!(matches!(error.kind(), Kind::Temporary { .. }), "{error}");
    assert_eq!(sink.len(), 50_000);

    // The body is complete, and short: that will not.
    let mut short = head(200, &[("Transfer-Encoding", "chunked")]);
    short.extend_from_slice(&chunk(&half));
    short.extend_from_slice(b"0\r\n\r\n");
    let fake = layer_of(&artifact, move |_| Reply::Raw(short.clone())).await;
    let (_, _, error) = attempt(&fake).await;
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    assert!(error.to_string().contains("sent 50000 where the manifest promises"), "{error}");
}

#[tokio::test]
async fn slowness_ends_at_a_deadline() {
    let artifact = Artifact::new(&module(1, 100_000));
    let length = artifact.layer.len().to_string();
    let begin = head(200, &[("Content-Length", &length)]);
    let cases = [
        ("limits.connect and limits.idle", Reply::Silence),
        ("limits.idle", Reply::Drip(begin.clone(), Duration::ZERO)),
        // A byte now and then is no silence; the deadline for the whole cuts it.
        (
            "limits.pull",
            Reply::Drip([begin, artifact.layer.clone()].concat(), Duration::from_millis(2)),
        ),
    ];
    for (word, slow) in cases {
        let slow = std::sync::Mutex::new(Some(slow));
        let fake = layer_of(&artifact, move |_| {
            slow.lock().expect("ours").take().unwrap_or(Reply::Silence)
        })
        .await;
        let mut config = config(&[&fake.host]);
        config.limits.attempts = 1;
        config.limits.connect = Duration::from_millis(500);
        config.limits.idle = Duration::from_millis(500);
        config.limits.pull = Duration::from_millis(2500);
        let start = Instant::now();
        let error = refused_with(&registries(config), &format!("{}/a:1", fake.host), word).await;
        assert!(matches!(error.kind(), Kind::Temporary { .. }));
        assert!(start.elapsed() < Duration::from_secs(4), "{word}: {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn manifests_are_capped_too() {
    let mut config_ = config(&[]);
    config_.limits.manifest_bytes = 100_000;
    for (declared, word) in
        [(Some("100001"), "limits.manifest_bytes"), (None, "limits.manifest_bytes")]
    {
        let fake = Fake::start(move |_| match declared {
            Some(length) => Reply::Raw(head(200, &[("Content-Length", length)])),
            None => Reply::Endless(head(200, &[("Transfer-Encoding", "chunked")])),
        })
        .await;
        let mut config = config(&[&fake.host]);
        config.limits = config_.limits.clone();
        let error = refused_with(&registries(config), &format!("{}/a:1", fake.host), word).await;
        assert_eq!(error.kind(), Kind::Refused);
        assert!(fake.sent() < 16 << 20);
    }
}

#[tokio::test]
async fn nonsense_is_an_error_and_no_panic() {
    let long_header = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    let bell = reply(418, &[("Content-Type", "text/plain")], b"\x1b]0;owned\x07\nsecond line");
    let html = reply(503, &[("Content-Type", "text/html")], b"<html>a page</html>");
    let cases = [
        ("", Reply::Raw(Vec::new())),
        ("", Reply::Raw(b"\0\0\0\0".to_vec())),
        ("", Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())),
        ("", Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_vec())),
        (
            "",
            Reply::Raw(
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec(),
            ),
        ),
        ("", Reply::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec())),
        ("", Reply::Raw(long_header.into_bytes())),
        ("", Reply::Raw(many_headers.into_bytes())),
        ("", Reply::Endless(b"HTTP/1.1 200 OK\r\nX: ".to_vec())),
        ("answered 418: ]0;owned second line", bell),
        ("answered 503", html),
        ("answered 418", Reply::Endless(head(418, &[("Transfer-Encoding", "chunked")]))),
        ("cannot be read", reply(200, &[], b"")),
        ("cannot be read", reply(200, &[], b"\xff\xfe\x00")),
        ("answered 204", reply(204, &[], b"")),
        ("answered 206", reply(206, &[], b"")),
        ("neither Basic nor Bearer", reply(401, &[], b"")),
        ("neither Basic nor Bearer", reply(401, &[("WWW-Authenticate", "Digest x=\"")], b"")),
        (
            "denied access (403)",
            reply(403, &[], br#"{"errors":[{"code":"DENIED","message":"no"}]}"#),
        ),
        ("a redirect to nowhere", reply(302, &[], b"")),
    ];
    for (word, answer) in cases {
        let answer = std::sync::Mutex::new(Some(answer));
        let fake = Fake::start(move |_| {
            answer.lock().expect("ours").take().unwrap_or(Reply::Raw(Vec::new()))
        })
        .await;
        let mut config = config(&[&fake.host]);
        config.limits.attempts = 1;
        let error = refused(&registries(config), &format!("{}/a:1", fake.host)).await;
        assert!(error.to_string().contains(word), "{error} should say {word}");
        assert!(!error.to_string().contains(['\u{1b}', '\u{7}']), "{error}");
        assert!(fake.sent() < 16 << 20, "{word}: {} bytes", fake.sent());
    }
}
