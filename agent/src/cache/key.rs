//! What decides about a compiled module: its place in the cache.

use serde::{Deserialize, Serialize};
use warmstep_registry::Digest;

/// Raised whenever the layout of an entry changes.
pub(crate) const FORMAT: u32 = 1;

/// How much effort went into the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tier {
    /// Compiled fast, runs slower.
    Baseline,
    /// Compiled slowly, runs fast.
    Optimized,
}

impl Tier {
    /// The name that the compiler, the index and people know.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Optimized => "optimized",
        }
    }
}

/// Names one compiled form of one module on one kind of processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(Digest);

impl Key {
    /// The key of a module's compiled form. `identity` is what the compiler says of itself: its
    /// version, target, processor features and settings.
    pub(crate) fn new(wasm: &Digest, tier: Tier, identity: &str) -> Self {
        let parts = [&FORMAT.to_string(), &wasm.to_string(), tier.name(), identity];
        // No part holds a line break, so that no two lists of parts read the same.
        Self(Digest::of(parts.join("\n").as_bytes()))
    }

    /// The name of the entry's directory.
    pub(crate) fn hex(&self) -> String {
        self.0.hex()
    }

    /// The key that a directory's name spells, if it does.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        Digest::from_hex(text).map(Self)
    }

    /// The raw bytes, for the index.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_decides_changes_the_key() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let key = Key::new(&a, Tier::Baseline, "wasmer 1");
        assert_eq!(key, Key::new(&a, Tier::Baseline, "wasmer 1"));
        assert_ne!(key, Key::new(&b, Tier::Baseline, "wasmer 1"));
        assert_ne!(key, Key::new(&a, Tier::Optimized, "wasmer 1"));
        assert_ne!(key, Key::new(&a, Tier::Baseline, "wasmer 2"));
    }
}
