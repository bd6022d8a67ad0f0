//! Manifests that lead to a module, and every other kind with the name it gets.

use serde_json::{Value, json};

use super::*;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

fn descriptor(kind: &str) -> Value {
    json!({ "mediaType": kind, "digest": Digest::of(kind.as_bytes()).to_string(), "size": 8 })
}

fn manifest(config: &str, layers: &[&str]) -> Value {
    let layers: Vec<_> = layers.iter().map(|kind| descriptor(kind)).collect();
    json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(config), "layers": layers })
}

fn index(platforms: &[(&str, &str)]) -> Value {
    let entries: Vec<_> = platforms
        .iter()
        .map(|(os, architecture)| {
            let mut entry = descriptor(MANIFEST);
            entry["platform"] = json!({ "os": os, "architecture": architecture });
            entry
        })
        .collect();
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries })
}

fn read_json(value: &Value) -> Result<Leads, ManifestError> {
    read(value.to_string().as_bytes(), None)
}

#[test]
fn both_forms_of_a_module() {
    let cncf = read_json(&manifest(WASM_CONFIG, &[WASM_LAYER]));
    let layer = Digest::of(WASM_LAYER.as_bytes());
    assert_eq!(cncf, Ok(Leads::Module { layer, size: 8, form: Form::Cncf }));

    let layer = Digest::of(OLD_LAYER.as_bytes());
    for config in ["application/vnd.wasm.config.v1+json", "application/vnd.unknown.config.v1+json"]
    {
        let old = read_json(&manifest(config, &[OLD_LAYER]));
        assert_eq!(old, Ok(Leads::Module { layer, size: 8, form: Form::ContentLayer }));
    }
}

#[test]
fn everything_else_is_named() {
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let cases = [
        (manifest(IMAGE_CONFIG, &[gzip]), "container image"),
        (manifest(IMAGE_CONFIG, &[gzip, gzip]), "container image"),
        (manifest("application/vnd.docker.container.image.v1+json", &[gzip]), "container image"),
        (manifest("application/vnd.oci.empty.v1+json", &[WASM_LAYER]), "config.v0+json"),
        (manifest(IMAGE_CONFIG, &[WASM_LAYER]), "config.v0+json"),
        (manifest(WASM_CONFIG, &[WASM_LAYER, WASM_LAYER]), "2 layers"),
        (manifest(WASM_CONFIG, &[]), "0 layers"),
        (manifest(WASM_CONFIG, &["application/wasm+gzip"]), "compressed"),
        (manifest(WASM_CONFIG, &["application/octet-stream"]), "application/octet-stream"),
        (manifest("application/vnd.cncf.helm.config.v1+json", &["a/b"]), "helm"),
        (json!({ "schemaVersion": 1, "fsLayers": [] }), "schema version 1"),
        (json!({ "layers": [] }), "schemaVersion"),
        (json!({ "schemaVersion": 2 }), "neither layers nor manifests"),
        (json!([]), "cannot be read"),
        (json!({ "errors": [] }), "schemaVersion"),
    ];
    for (document, word) in cases {
        let error = read_json(&document).expect_err(word).to_string();
        assert!(error.contains(word), "{document}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn hostile_fields_are_refused() {
    let good = manifest(WASM_CONFIG, &[WASM_LAYER]);
    for (pointer, value, word) in [
        ("/layers/0/size", json!(-1), "cannot be read"),
        ("/layers/0/size", json!(1.5), "cannot be read"),
        ("/layers/0/digest", json!("sha512:abcd"), "sha256:"),
        ("/layers/0/digest", json!("../../etc/passwd"), "sha256:"),
        ("/layers/0/mediaType", json!("a\nb\u{1b}[2J"), "a b [2J"),
        ("/schemaVersion", json!("2"), "cannot be read"),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect(pointer) = value;
        let error = read_json(&bad).expect_err(pointer).to_string();
        assert!(error.contains(word) && !error.contains(['\n', '\u{1b}']), "{error}");
    }
    let twice = format!("{},\"layers\":[]}}", good.to_string().trim_end_matches('}'));
    assert!(read(twice.as_bytes(), None).is_err(), "a key twice: {twice}");
    let deep = "[".repeat(100_000);
    assert!(read(deep.as_bytes(), None).is_err(), "nesting");
    assert!(read(b"", None).is_err());
    assert!(read(b"\xff\xfe", None).is_err());
}

/// S4 of the threat list.
#[test]
fn a_manifest_that_is_also_an_index_is_refused() {
    let mut both = manifest(WASM_CONFIG, &[WASM_LAYER]);
    both["manifests"] = index(&[("wasi", "wasm")])["manifests"].clone();
    for (layers, manifests) in [(true, true), (true, false), (false, true)] {
        let mut document = both.clone();
        if !layers {
            document["layers"] = json!([]);
        }
        if !manifests {
            document["manifests"] = json!([]);
        }
        assert_eq!(read_json(&document), Err(ManifestError::Ambiguous), "{document}");
    }
    let good = manifest(WASM_CONFIG, &[WASM_LAYER]);
    assert!(
        matches!(
            read(good.to_string().as_bytes(), Some(INDEX)),
            Err(ManifestError::Mislabelled(_))
        ),
        "a manifest that the registry calls an index"
    );
    let mut mislabelled = index(&[("wasi", "wasm")]);
    mislabelled["mediaType"] = json!(MANIFEST);
    assert!(matches!(read_json(&mislabelled), Err(ManifestError::Mislabelled(_))));
}

#[test]
fn an_index_is_followed_when_only_one_entry_can_be_meant() {
    let entry = Leads::Manifest { digest: Digest::of(MANIFEST.as_bytes()), size: 8 };
    for platforms in
        [&[("wasi", "wasm")][..], &[("linux", "amd64"), ("wasip1", "wasm"), ("unknown", "unknown")]]
    {
        assert_eq!(read_json(&index(platforms)).as_ref(), Ok(&entry));
    }
    for (platforms, candidates) in [
        (&[][..], 0),
        (&[("linux", "amd64"), ("linux", "arm64")], 0),
        (&[("wasip2", "wasm")], 0),
        (&[("wasi", "wasm"), ("wasip1", "wasm")], 2),
    ] {
        let expected = ManifestError::Index { entries: platforms.len(), candidates };
        assert_eq!(read_json(&index(platforms)), Err(expected));
    }
    let mut nested = index(&[("wasi", "wasm")]);
    nested["manifests"][0]["mediaType"] = json!(INDEX);
    assert_eq!(read_json(&nested), Err(ManifestError::NestedIndex));
}
