//! S5 and S6 of the threat list: layers that hold something else than a core module.

use std::io::Cursor;

use warmstep_registry::{Kind, Limits};

use super::common::{OLD_CONFIG, OLD_LAYER, Registry, WASM_CONFIG, WASM_LAYER, module};
use super::fake::{Artifact, Fake, reply};
use super::{config, reference, refused_with, registries};

#[tokio::test]
async fn a_layer_is_a_core_module_or_refused_unwritten() {
    let registry = Registry::anonymous();
    let registries = registries(config(&[&registry.host]));
    let long = |start: &[u8]| [start, &vec![0; 100_000]].concat();
    let own = std::fs::read(std::env::current_exe().expect("a path")).expect("this program");
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("elf", own[..200_000].to_vec(), "native code (ELF)"),
        ("wasmer", long(b"wasmer-universal"), "wasmer has compiled"),
        ("wat", b"(module (func (export \"_start\")))".to_vec(), "wat2wasm"),
        ("component", long(b"\0asm\x0d\0\x01\0"), "is a component; build for wasm32-wasip1"),
        ("gzip", long(b"\x1f\x8b\x08\0"), "compressed (gzip)"),
        ("zip", long(b"PK\x03\x04"), "archive (zip)"),
        ("script", b"#!/bin/sh\nreboot\n".to_vec(), "script"),
        ("tar", long(b"../../../../etc/cron.d/x"), "is not WebAssembly"),
        ("short", b"\0asm\x01".to_vec(), "shorter than the header"),
        ("empty", Vec::new(), "shorter than the header"),
    ];
    for (name, layer, word) in cases {
        for (form, config_type, layer_type) in
            [("new", WASM_CONFIG, WASM_LAYER), ("old", OLD_CONFIG, OLD_LAYER)]
        {
            let repository = format!("{form}/{name}");
            let layers = [(layer_type, layer.as_slice())];
            registry.push_artifact(&repository, "1", (config_type, b"{}"), &layers);
            let text = format!("{}/{repository}:1", registry.host);
            let error = refused_with(&registries, &text, word).await;
            assert_eq!(error.kind(), Kind::Refused);

            let resolved = registries.resolve(&reference(&text)).await.expect("resolved");
            let mut sink = Cursor::new(Vec::new());
            registries.pull(&resolved, &mut sink, |_, _| ()).await.expect_err("refused");
            assert!(sink.into_inner().len() < 8, "nothing of it is written");
        }
    }
}

#[tokio::test]
async fn the_size_is_judged_before_a_byte_is_asked_for() {
    let wasm = module(1, 10_000);
    let artifact = Artifact::new(&wasm);
    let fake = Fake::start(move |seen| artifact.serve(seen)).await;
    let mut config = config(&[&fake.host]);
    config.limits = Limits { module_bytes: wasm.len() as u64 - 1, ..config.limits };
    let text = format!("{}/a:1", fake.host);
    let error = refused_with(&registries(config.clone()), &text, "limits.module_bytes").await;
    assert_eq!(error.kind(), Kind::Refused);
    assert!(fake.seen().iter().all(|seen| !seen.target.contains("/blobs/")));

    config.limits.module_bytes += 1;
    super::pull(&registries(config), &text).await.expect("exactly the limit is allowed");
}

/// A few bytes that would become many are not even looked at.
#[tokio::test]
async fn an_encoded_answer_is_refused() {
    let artifact = Artifact::new(&module(1, 10_000));
    for what in ["/manifests/", "/blobs/"] {
        let artifact = artifact.clone();
        let fake = Fake::start(move |seen| {
            if seen.target.contains(what) {
                assert_eq!(seen.header("accept-encoding"), None, "none is asked for");
                reply(200, &[("Content-Encoding", "gzip")], b"\x1f\x8b")
            } else {
                artifact.serve(seen)
            }
        })
        .await;
        let registries = registries(config(&[&fake.host]));
        let error = refused_with(&registries, &format!("{}/a:1", fake.host), "compressed").await;
        assert_eq!(error.kind(), Kind::Refused);
    }
}

/// S4: readers would disagree on what it is.
#[tokio::test]
async fn a_manifest_with_layers_and_manifests_is_refused() {
    let artifact = Artifact::new(&module(1, 1000));
    let mut both: serde_json::Value = serde_json::from_slice(&artifact.manifest).expect("JSON");
    both["manifests"] = serde_json::json!([]);
    let served = Artifact { manifest: both.to_string().into_bytes(), ..artifact.clone() };
    let fake = Fake::start(move |seen| served.serve(seen)).await;
    let registries_ = registries(config(&[&fake.host]));
    let error = refused_with(&registries_, &format!("{}/a:1", fake.host), "ambiguous").await;
    assert_eq!(error.kind(), Kind::Refused);

    let fake = Fake::start(move |_| {
        let kind = ("Content-Type", super::common::INDEX);
        reply(200, &[kind], &artifact.manifest)
    })
    .await;
    let registries = registries(config(&[&fake.host]));
    refused_with(&registries, &format!("{}/a:1", fake.host), "calls itself").await;
}
