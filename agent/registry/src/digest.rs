//! SHA-256 digests as OCI writes them: `sha256:` and 64 lowercase hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// A SHA-256 digest of a manifest or of a layer.
///
/// The only algorithm that is accepted: it is the one every registry has, and the one the cache
/// is keyed by. The form is the `digest` of the OCI image specification's descriptors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is no [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// It names another algorithm, or none.
    #[error("a digest starts with \"sha256:\"")]
    Algorithm,
    /// What follows the algorithm is not 64 lowercase hexadecimal digits.
    #[error("\"sha256:\" is followed by 64 lowercase hexadecimal digits")]
    Digits,
}

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The digest whose 32 bytes are `bytes`.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits alone, for names of files.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The digest whose 64 hexadecimal digits are `text`; nothing when that is anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        // One digest has one spelling, or texts could not be compared.
        let lowercase = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let mut bytes = [0; 32];
        let decoded = hex::decode_to_slice(text, &mut bytes);
        (lowercase && decoded.is_ok()).then_some(Self(bytes))
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

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digits = text.strip_prefix("sha256:").ok_or(DigestError::Algorithm)?;
        Self::from_hex(digits).ok_or(DigestError::Digits)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_one_spelling() {
        // FIPS 180-2's example for the three bytes "abc".
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), text);
        assert_eq!(text.parse(), Ok(Digest::of(b"abc")));
        assert_eq!(
            text.replace("ba78", "BA78").parse::<Digest>(),
            Err(DigestError::Digits),
            "uppercase"
        );
        assert_eq!(text[..70].parse::<Digest>(), Err(DigestError::Digits), "short");
        assert_eq!(format!("{text}00").parse::<Digest>(), Err(DigestError::Digits), "long");
        assert_eq!(text.replace("256", "512").parse::<Digest>(), Err(DigestError::Algorithm));
        assert_eq!("".parse::<Digest>(), Err(DigestError::Algorithm));
    }
}
