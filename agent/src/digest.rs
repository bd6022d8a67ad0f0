//! SHA-256 digests, as OCI writes them: `sha256:` and 64 hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// The SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Digest([u8; 32]);

/// A text that is no digest.
#[derive(Debug, thiserror::Error)]
#[error("a digest is sha256: and 64 hexadecimal digits, not {0:?}")]
pub(crate) struct DigestError(String);

impl Digest {
    /// The digest of bytes at hand.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest that a hasher has come to.
    pub(crate) fn from_hasher(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// The 64 hexadecimal digits alone, for file names.
    pub(crate) fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The raw bytes, for keys of the index.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A digest from its 64 hexadecimal digits alone.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl From<warmstep_registry::Digest> for Digest {
    fn from(digest: warmstep_registry::Digest) -> Self {
        Self(*digest.as_bytes())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.strip_prefix("sha256:").and_then(Self::from_hex).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            DigestError(shown)
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let digest = Digest::of(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse::<Digest>().ok(), Some(digest));
        for bad in ["", "sha256:", "sha256:e3b0", "md5:00", &digest.hex()] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
