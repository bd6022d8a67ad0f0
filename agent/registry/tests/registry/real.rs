//! Against a real, anonymous registry: both forms, tags and digests, what is missing.

use std::sync::Mutex;

use serde_json::json;
use warmstep_registry::{Digest, Form, Kind};

use super::common::{INDEX, MANIFEST, OLD_CONFIG, OLD_LAYER, Registry, digest, manifest, module};
use super::{config, pull, reference, refused_with, registries};

#[tokio::test]
async fn both_forms_by_tag_and_by_digest() {
    let registry = Registry::anonymous();
    let registries = registries(config(&[&registry.host]));
    let new = module(1, 3 << 20);
    let old = module(2, 1000);
    let host = &registry.host;
    let manifest_new = registry.push("team/new", "1.0", &new);
    let layers = [(OLD_LAYER, old.as_slice())];
    let manifest_old = registry.push_artifact("old", "latest", (OLD_CONFIG, b"{}"), &layers);

    let by_tag = format!("{host}/team/new:1.0");
    let by_digest = format!("oci://{host}/team/new@{manifest_new}");
    let by_both = format!("{host}/team/new:no-such-tag@{manifest_new}");
    for text in [by_tag, by_digest, by_both] {
        let (resolved, bytes) = pull(&registries, &text).await.expect(&text);
        assert!(bytes == new, "{text}: other bytes");
        assert_eq!(resolved.manifest().to_string(), manifest_new);
        assert_eq!(resolved.module(), Digest::of(&new));
        assert_eq!(resolved.size(), new.len() as u64);
        assert_eq!(resolved.form(), Form::Cncf);
        assert_eq!(resolved.index(), None);
    }
    let (resolved, bytes) = pull(&registries, &format!("{host}/old")).await.expect("old form");
    assert!(bytes == old);
    assert_eq!(resolved.form(), Form::ContentLayer);
    assert_eq!(resolved.reference().to_string(), format!("{host}/old:latest@{manifest_old}"));
}

#[tokio::test]
async fn progress_grows_to_the_size() {
    let registry = Registry::anonymous();
    let registries = registries(config(&[&registry.host]));
    let wasm = module(3, 5 << 20);
    registry.push("a", "1", &wasm);
    let resolved =
        registries.resolve(&reference(&format!("{}/a:1", registry.host))).await.expect("resolved");
    let steps = Mutex::new(Vec::new());
    let path = tempfile::NamedTempFile::new().expect("a file");
    let mut file = tokio::fs::File::create(path.path()).await.expect("opened");
    registries
        .pull(&resolved, &mut file, |done, total| steps.lock().expect("ours").push((done, total)))
        .await
        .expect("pulled");
    let size = wasm.len() as u64;
    let steps = steps.into_inner().expect("ours");
    assert_eq!(steps.first(), Some(&(0, size)));
    assert_eq!(steps.last(), Some(&(size, size)));
    assert!(steps.is_sorted() && steps.len() > 10, "{} steps", steps.len());
    assert!(std::fs::read(path.path()).expect("read") == wasm, "flushed to the file");
}

/// S3 of the threat list.
#[tokio::test]
async fn a_moved_tag_changes_nothing_that_is_pinned() {
    let registry = Registry::anonymous();
    let registries = registries(config(&[&registry.host]));
    let (first, second) = (module(1, 500), module(2, 500));
    let text = format!("{}/a:1", registry.host);

    registry.push("a", "1", &first);
    let pinned = registries.resolve(&reference(&text)).await.expect("resolved");
    registry.push("a", "1", &second);

    let mut sink = std::io::Cursor::new(Vec::new());
    registries.pull(&pinned, &mut sink, |_, _| ()).await.expect("pulled");
    assert!(sink.into_inner() == first, "what was resolved is what is pulled");
    let again = registries.resolve(pinned.reference()).await.expect("resolved");
    assert_eq!(again, pinned, "the pinned reference still means the same");
    let (moved, bytes) = pull(&registries, &text).await.expect("pulled");
    assert!(bytes == second && moved.module() == Digest::of(&second), "the tag has moved");
}

#[tokio::test]
async fn an_independent_client_agrees_on_the_formats() {
    use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
    let _ = rustls::crypto::ring::default_provider().install_default();
    let registry = Registry::anonymous();
    let registries = registries(config(&[&registry.host]));
    let client = oci_client::Client::new(ClientConfig {
        protocol: ClientProtocol::Http,
        ..ClientConfig::default()
    });
    for (name, config_type, layer_type, form) in [
        ("new", super::common::WASM_CONFIG, super::common::WASM_LAYER, Form::Cncf),
        ("old", OLD_CONFIG, OLD_LAYER, Form::ContentLayer),
    ] {
        let wasm = module(7, 100_000);
        let text = format!("{}/{name}:1", registry.host);
        let layers = [ImageLayer::new(wasm.clone(), layer_type.to_owned(), None)];
        let config = Config::new(&b"{}"[..], config_type.to_owned(), None);
        let auth = oci_client::secrets::RegistryAuth::Anonymous;
        let their_reference = text.parse().expect("parses");
        client.push(&their_reference, &layers, config, &auth, None).await.expect("pushed");
        let theirs = client.fetch_manifest_digest(&their_reference, &auth).await.expect("a digest");

        let (resolved, bytes) = pull(&registries, &text).await.expect("pulled");
        assert!(bytes == wasm);
        assert_eq!(resolved.form(), form);
        assert_eq!(resolved.manifest().to_string(), theirs);
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let registry = Registry::anonymous();
    let registries = registries(config(&[&registry.host]));
    let host = &registry.host;
    registry.push("a", "1", &module(1, 500));
    let nowhere = digest(b"nowhere");
    for text in [format!("{host}/b:1"), format!("{host}/a:2"), format!("{host}/a@{nowhere}")] {
        let error = refused_with(&registries, &text, "no such module").await;
        assert_eq!(error.kind(), Kind::NotFound);
    }
    let lost = module(9, 500);
    registry.push("lost", "1", &lost);
    registry.lose_blob(&lost);
    let error = refused_with(&registries, &format!("{host}/lost:1"), "push the module again").await;
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn indexes_are_followed_only_where_they_are_plain() {
    let registry = Registry::anonymous();
    let registries = registries(config(&[&registry.host]));
    let host = &registry.host;
    let wasm = module(1, 500);
    let module_manifest = registry.push("a", "only", &wasm);
    let image = (
        "application/vnd.oci.image.config.v1+json",
        &br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#[..],
    );
    let layer = ("application/vnd.oci.image.layer.v1.tar+gzip", &b"\x1f\x8bnot really"[..]);
    let image_manifest = registry.push_artifact("a", "image", image, &[layer]);
    let sizes = [
        super::common::manifest(
            (super::common::WASM_CONFIG, &super::common::config_of(&wasm)),
            &[(super::common::WASM_LAYER, &wasm)],
        ),
        manifest(image, &[layer]),
    ]
    .map(|document| document.to_string().len());
    let entry = |digest: &str, size: usize, os: &str, architecture: &str| {
        json!({ "mediaType": MANIFEST, "digest": digest, "size": size,
                "platform": { "os": os, "architecture": architecture } })
    };
    let index = |entries: &[serde_json::Value]| json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    let wasi = entry(&module_manifest, sizes[0], "wasip1", "wasm");
    let linux = entry(&image_manifest, sizes[1], "linux", "amd64");

    let both = registry.push_manifest("a", "both", &index(&[linux.clone(), wasi.clone()]));
    let (resolved, bytes) = pull(&registries, &format!("{host}/a:both")).await.expect("pulled");
    assert!(bytes == wasm);
    assert_eq!(resolved.index().map(|index| index.to_string()), Some(both.clone()));
    assert_eq!(resolved.manifest().to_string(), module_manifest);
    pull(&registries, &format!("{host}/a@{both}")).await.expect("pulled by the index's digest");

    registry.push_manifest("a", "linux", &index(&[linux]));
    registry.push_manifest("a", "twice", &index(&[wasi.clone(), wasi]));
    for (tag, word) in [
        ("linux", "an index of 1 manifests, 0 of them for wasi/wasm"),
        ("twice", "an index of 2 manifests, 2 of them for wasi/wasm"),
        ("image", "container image"),
    ] {
        let error = refused_with(&registries, &format!("{host}/a:{tag}"), word).await;
        assert_eq!(error.kind(), Kind::Refused);
    }
}
