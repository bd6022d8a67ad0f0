//! The manifest of an entry: what its files must be, authenticated with the node's own key.
//!
//! Two lines: the manifest in JSON, and its HMAC-SHA256 in hexadecimal. A manifest that this node
//! did not write is worth nothing, so native code from elsewhere is never mapped.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use warmstep_registry::Digest;

use super::key::{FORMAT, Key, Tier};
use crate::host::Host;

/// The longest manifest that is read, in bytes: some import names and two files fit many times.
pub(crate) const MAX_MANIFEST: u64 = 1024 * 1024;

/// One file of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRecord {
    /// Its name in the entry's directory.
    pub(crate) name: String,
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// The SHA-256 of its contents.
    pub(crate) digest: Digest,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// [`FORMAT`] when it was written.
    pub(crate) format: u32,
    /// The key, in hexadecimal: an entry under another's name is refused.
    pub(crate) key: String,
    /// The Wasm it was compiled from.
    pub(crate) wasm: Digest,
    /// How it was compiled.
    pub(crate) tier: Tier,
    /// What it runs on.
    #[serde(default)]
    pub(crate) host: Host,
    /// How long that took, in microseconds.
    pub(crate) compile_us: u64,
    /// The artifact, and what else is lent with it.
    pub(crate) files: Vec<FileRecord>,
}

impl Manifest {
    /// How many bytes the entry's files have together.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// One file by its name.
    pub(crate) fn file(&self, name: &str) -> Option<&FileRecord> {
        self.files.iter().find(|file| file.name == name)
    }
}

/// A manifest is not to be believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    /// It was not written by this node, or changed since.
    #[error("its manifest was not written by this node's agent, or has changed since")]
    Forged,
    /// It stands under another entry's name.
    #[error("it is the entry of another key")]
    Misplaced,
    /// It is not a manifest of this format.
    #[error("its manifest cannot be read: {0}")]
    Malformed(String),
}

/// The node's own secret, which never leaves the cache's directory.
pub(crate) struct Secret([u8; 32]);

impl Secret {
    /// A secret of 32 random bytes.
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn mac(&self, text: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .unwrap_or_else(|error| unreachable!("HMAC takes keys of any length: {error}"));
        mac.update(text);
        mac
    }

    /// The bytes of an authenticated manifest.
    pub(crate) fn seal(&self, manifest: &Manifest) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(manifest)
            .unwrap_or_else(|error| unreachable!("a manifest is plain data: {error}"));
        let mac = hex::encode(self.mac(&bytes).finalize().into_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(mac.as_bytes());
        bytes.push(b'\n');
        bytes
    }

    /// Reads a manifest back, if this node wrote it for this key.
    pub(crate) fn open(&self, bytes: &[u8], key: &Key) -> Result<Manifest, ManifestError> {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let (Some(text), Some(mac)) = (lines.next(), lines.next()) else {
            return Err(ManifestError::Forged);
        };
        let mac = hex::decode(mac).map_err(|_| ManifestError::Forged)?;
        self.mac(text).verify_slice(&mac).map_err(|_| ManifestError::Forged)?;
        let manifest: Manifest = serde_json::from_slice(text)
            .map_err(|error| ManifestError::Malformed(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(ManifestError::Malformed(format!("format {}", manifest.format)));
        }
        if manifest.key != key.hex() {
            return Err(ManifestError::Misplaced);
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(key: &Key) -> Manifest {
        Manifest {
            format: FORMAT,
            key: key.hex(),
            wasm: Digest::of(b"wasm"),
            tier: Tier::Baseline,
            host: Host::Wasix,
            compile_us: 7,
            files: vec![FileRecord {
                name: "module".to_owned(),
                bytes: 3,
                digest: Digest::of(b"elf"),
            }],
        }
    }

    #[test]
    fn only_what_this_node_wrote_for_this_key_is_believed() {
        let key = Key::new(&Digest::of(b"wasm"), Tier::Baseline, "x");
        let other = Key::new(&Digest::of(b"wasm"), Tier::Optimized, "x");
        let secret = Secret::new([7; 32]);
        let sealed = secret.seal(&sample(&key));
        assert_eq!(secret.open(&sealed, &key).unwrap(), sample(&key));
        assert!(matches!(secret.open(&sealed, &other), Err(ManifestError::Misplaced)));
        assert!(matches!(Secret::new([8; 32]).open(&sealed, &key), Err(ManifestError::Forged)));
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let key = Key::new(&Digest::of(b"wasm"), Tier::Baseline, "x");
        let secret = Secret::new([7; 32]);
        let sealed = secret.seal(&sample(&key));
        // The last byte is the line break after the MAC, which decides about nothing.
        for position in 0..sealed.len() - 1 {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[position] ^= 1 << bit;
                let opened = secret.open(&changed, &key);
                // Hexadecimal digits have two cases: the same MAC, spelt differently.
                let same = changed.eq_ignore_ascii_case(&sealed) && position > sealed.len() - 66;
                assert!(opened.is_err() || same, "byte {position} bit {bit}");
            }
        }
        for length in 0..sealed.len() - 1 {
            assert!(secret.open(&sealed[..length], &key).is_err(), "{length} bytes");
        }
    }
}
