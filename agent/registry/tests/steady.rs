//! After hostile registries the process is what it was: descriptors, threads, memory.
//!
//! A test program of its own, so that nothing else changes the counts.

#[path = "common/mod.rs"]
mod common;
#[path = "common/fake.rs"]
mod fake;

use std::io::Cursor;
use std::time::Duration;

use fake::{Artifact, Fake, Reply, head, redirect, reply};
use warmstep_registry::{HostConfig, Limits, Registries, RegistryConfig};

/// How often each hostile registry is asked, once to fill what is filled once (the allocator takes
/// a megabyte and keeps it), and once to count.
const ROUNDS: usize = 100;

/// What the process holds.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    memory_kib: u64,
}

fn held() -> Held {
    let count = |path| std::fs::read_dir(path).expect("/proc").count();
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    Held {
        descriptors: count("/proc/self/fd"),
        threads: count("/proc/self/task"),
        memory_kib: memory.trim_end_matches("kB").trim().parse().expect("a number"),
    }
}

/// One of each kind of harm.
async fn hostile() -> Vec<Fake> {
    let artifact = Artifact::new(&common::module(1, 200_000));
    let half = {
        let length = artifact.layer.len().to_string();
        let mut bytes = head(200, &[("Content-Length", &length)]);
        bytes.extend_from_slice(&artifact.layer[..100_000]);
        bytes
    };
    let layer = |answer: fn(&[u8]) -> Reply, bytes: Vec<u8>| {
        let artifact = artifact.clone();
        move |seen: &fake::Seen| {
            if seen.target.contains("/blobs/") { answer(&bytes) } else { artifact.serve(seen) }
        }
    };
    vec![
        Fake::start(layer(|bytes| Reply::Raw(bytes.to_vec()), half)).await,
        Fake::start(layer(|_| Reply::Endless(head(200, &[])), Vec::new())).await,
        Fake::start(layer(|_| redirect(302, "https://169.254.169.254/"), Vec::new())).await,
        Fake::start(|_| Reply::Endless(head(200, &[("Transfer-Encoding", "chunked")]))).await,
        Fake::start(|_| Reply::Endless(b"HTTP/1.1 200 OK\r\nX: ".to_vec())).await,
        Fake::start(|_| reply(401, &[("WWW-Authenticate", "Bearer realm=\"x\"")], b"")).await,
        Fake::start(|_| reply(500, &[], &[b'x'; 10_000])).await,
        Fake::start(|_| Reply::Silence).await,
    ]
}

async fn round(registries: &Registries, fakes: &[Fake]) {
    for fake in fakes {
        let reference = format!("{}/a:1", fake.host).parse().expect("a reference");
        if let Ok(resolved) = registries.resolve(&reference).await {
            let mut sink = Cursor::new(Vec::new());
            registries.pull(&resolved, &mut sink, |_, _| ()).await.expect_err("hostile");
        }
    }
}

#[tokio::test]
async fn hostile_registries_leave_nothing_behind() {
    let fakes = hostile().await;
    let plain = HostConfig { plain_http: true, ..HostConfig::default() };
    let registries = Registries::new(RegistryConfig {
        hosts: fakes.iter().map(|fake| (fake.host.clone(), plain.clone())).collect(),
        limits: Limits {
            attempts: 1,
            connect: Duration::from_millis(10),
            idle: Duration::from_millis(20),
            ..Limits::default()
        },
        ..RegistryConfig::default()
    })
    .expect("valid");

    for _ in 0..ROUNDS {
        round(&registries, &fakes).await;
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    fakes.iter().for_each(Fake::forget);
    let before = held();
    for _ in 0..ROUNDS {
        round(&registries, &fakes).await;
    }
    // What the fakes remember, in this process too, is not ours.
    fakes.iter().for_each(Fake::forget);
    let mut after = held();
    for _ in 0..100 {
        if after.descriptors <= before.descriptors && after.threads <= before.threads {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        after = held();
    }
    println!("{} hostile pulls: {before:?}, {after:?}", ROUNDS * fakes.len());
    assert!(after.descriptors <= before.descriptors, "{before:?} {after:?}");
    assert!(after.threads <= before.threads, "{before:?} {after:?}");
    let growth = after.memory_kib.saturating_sub(before.memory_kib);
    assert!(growth * 20 < before.memory_kib, "{growth} KiB more after {ROUNDS} rounds");
}
