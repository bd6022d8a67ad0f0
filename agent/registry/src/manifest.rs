//! Manifests: the two forms in which a module is stored, and names for everything else.
//!
//! Formats: the OCI image specification 1.1 (manifest, image index), Docker's manifest schema 2,
//! and the CNCF's "Wasm OCI Artifact layout".

use serde::Deserialize;

use crate::digest::Digest;

/// What is asked for with `Accept`. Indexes and images are in it so that a registry sends them
/// as they are, and they can be named, instead of answering 404 or converting.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// The configuration's type in the CNCF form.
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// The layer's type in the CNCF form.
const WASM_LAYER: &str = "application/wasm";
/// The layer's type in the older form, which left the configuration open.
const OLD_LAYER: &str = "application/vnd.wasm.content.layer.v1+wasm";

/// Platforms of modules in an index: what containerd's Wasm images write and what the CNCF form
/// calls its operating system. `wasip2` is a component's.
const WASM_SYSTEMS: [&str; 2] = ["wasi", "wasip1"];

/// How a module is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// The CNCF form: configuration `application/vnd.wasm.config.v0+json`, layer
    /// `application/wasm`.
    Cncf,
    /// The older form: layer `application/vnd.wasm.content.layer.v1+wasm`.
    ContentLayer,
}

/// Why a manifest gives no module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// No JSON, or of another shape.
    #[error("its manifest cannot be read: {0}")]
    Malformed(String),
    /// A manifest and an index in one, which readers would understand differently.
    #[error(
        "its manifest has both \"layers\" and \"manifests\", which makes it ambiguous; push the module again"
    )]
    Ambiguous,
    /// A declared type that contradicts the content.
    #[error("its manifest calls itself {0}, and is something else")]
    Mislabelled(String),
    /// An image for containers.
    #[error(
        "it is a container image, not a WebAssembly module; give the step that image, or push the module as an artifact"
    )]
    ContainerImage,
    /// A format older than 2.
    #[error("its manifest has schema version {0}; only 2 is known")]
    Schema(u64),
    /// An index without exactly one module.
    #[error(
        "it is an index of {entries} manifests, {candidates} of them for wasi/wasm; reference one by its digest"
    )]
    Index {
        /// How many manifests it lists.
        entries: usize,
        /// How many could be meant.
        candidates: usize,
    },
    /// An index whose entry is an index again.
    #[error("it is an index of an index; reference one manifest by its digest")]
    NestedIndex,
    /// Too many layers or none.
    #[error("it has {0} layers, a module has one")]
    Layers(usize),
    /// A layer of another type.
    #[error("its layer has the type {0}; a module's is {WASM_LAYER}")]
    LayerType(String),
    /// A layer that would have to be decompressed.
    #[error("its layer is compressed ({0}); push the module as it is")]
    Compressed(String),
    /// The layer of the CNCF form with another configuration.
    #[error(
        "its configuration has the type {0}, which should be {WASM_CONFIG}; push the module as a Wasm artifact"
    )]
    ConfigType(String),
    /// Another kind of artifact.
    #[error("it is an artifact of type {0}, not a WebAssembly module")]
    OtherArtifact(String),
    /// A digest that is none of ours.
    #[error("its manifest has the digest \"{text}\": {error}")]
    Digest {
        /// The digest as written.
        text: String,
        /// What is wrong with it.
        error: crate::DigestError,
    },
}

/// What a manifest leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Leads {
    /// To a module: its layer.
    Module { layer: Digest, size: u64, form: Form },
    /// To another manifest, from an index.
    Manifest { digest: Digest, size: u64 },
}

/// The fields that decide, of a manifest and of an index alike. Others are ignored, as the
/// specification demands; one of these twice is an error of serde's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

/// Reads a manifest or an index.
///
/// `content_type` is what the registry called it. The artifact's configuration is not fetched:
/// it repeats what the layer's own bytes say, and those are looked at.
pub(crate) fn read(bytes: &[u8], content_type: Option<&str>) -> Result<Leads, ManifestError> {
    // serde would take a list for an object, too, and no other reader would.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(ManifestError::Malformed("it is no JSON object".to_owned()));
    }
    let document: Document = serde_json::from_slice(bytes).map_err(|error| {
        ManifestError::Malformed(crate::text::one_line(&error.to_string(), 200))
    })?;
    match document.schema_version {
        Some(2) => {}
        Some(other) => return Err(ManifestError::Schema(other)),
        None => return Err(ManifestError::Malformed("it has no schemaVersion".to_owned())),
    }
    match (&document.layers, &document.manifests) {
        (Some(_), Some(_)) => Err(ManifestError::Ambiguous),
        (None, None) => {
            Err(ManifestError::Malformed("it has neither layers nor manifests".to_owned()))
        }
        (Some(layers), None) => {
            check_label(&document, content_type, is_index_type)?;
            module(&document, layers)
        }
        (None, Some(manifests)) => {
            check_label(&document, content_type, is_manifest_type)?;
            choose(manifests)
        }
    }
}

/// Both the document's own type and the registry's must not be of the other sort: what one
/// reader takes for a manifest and the next for an index is an attack (CVE-2021-41190).
fn check_label(
    document: &Document,
    content_type: Option<&str>,
    wrong: fn(&str) -> bool,
) -> Result<(), ManifestError> {
    let labels = [document.media_type.as_deref(), content_type];
    match labels.into_iter().flatten().find(|label| wrong(label)) {
        Some(label) => Err(ManifestError::Mislabelled(shown(label))),
        None => Ok(()),
    }
}

fn is_index_type(label: &str) -> bool {
    matches!(
        essence(label),
        "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}

fn is_manifest_type(label: &str) -> bool {
    matches!(
        essence(label),
        "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json"
    )
}

/// A media type without its parameters.
fn essence(label: &str) -> &str {
    label.split(';').next().unwrap_or_default().trim()
}

/// A type as it may be printed.
fn shown(label: &str) -> String {
    crate::text::one_line(label, 100)
}

fn module(document: &Document, layers: &[Descriptor]) -> Result<Leads, ManifestError> {
    let config = document.config.as_ref().map_or("", |config| config.media_type.as_str());
    let form = match layers {
        [layer] if layer.media_type == WASM_LAYER && config == WASM_CONFIG => Form::Cncf,
        [layer] if layer.media_type == OLD_LAYER => Form::ContentLayer,
        _ => return Err(name(document, config, layers)),
    };
    let [layer] = layers else { return Err(ManifestError::Layers(layers.len())) };
    Ok(Leads::Module { layer: digest(&layer.digest)?, size: layer.size, form })
}

/// What a manifest is that is none of a module.
fn name(document: &Document, config: &str, layers: &[Descriptor]) -> ManifestError {
    let is_image = |kind: &str| {
        matches!(
            kind,
            "application/vnd.oci.image.config.v1+json"
                | "application/vnd.docker.container.image.v1+json"
        )
    };
    let [layer] = layers else {
        if is_image(config) {
            return ManifestError::ContainerImage;
        }
        return ManifestError::Layers(layers.len());
    };
    let kind = layer.media_type.as_str();
    if kind == WASM_LAYER {
        ManifestError::ConfigType(shown(config))
    } else if is_image(config) {
        ManifestError::ContainerImage
    } else if kind.contains("wasm") && ["gzip", "zstd"].iter().any(|word| kind.contains(word)) {
        ManifestError::Compressed(shown(kind))
    } else if kind.contains("wasm") || config.contains("wasm") {
        ManifestError::LayerType(shown(kind))
    } else {
        ManifestError::OtherArtifact(shown(document.artifact_type.as_deref().unwrap_or(config)))
    }
}

/// The one manifest of an index that is for us.
fn choose(manifests: &[Descriptor]) -> Result<Leads, ManifestError> {
    let mut candidates = manifests.iter().filter(|entry| {
        entry.platform.as_ref().is_some_and(|platform| {
            platform.architecture == "wasm" && WASM_SYSTEMS.contains(&platform.os.as_str())
        })
    });
    match (candidates.next(), candidates.count()) {
        (Some(entry), 0) if is_index_type(&entry.media_type) => Err(ManifestError::NestedIndex),
        (Some(entry), 0) => {
            Ok(Leads::Manifest { digest: digest(&entry.digest)?, size: entry.size })
        }
        (first, more) => Err(ManifestError::Index {
            entries: manifests.len(),
            candidates: usize::from(first.is_some()) + more,
        }),
    }
}

fn digest(text: &str) -> Result<Digest, ManifestError> {
    text.parse().map_err(|error| ManifestError::Digest { text: shown(text), error })
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
