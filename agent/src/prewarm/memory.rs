//! What the next start has to know, in a file of the cache's directory: the API server may be away
//! then, and what it wanted must be warm all the same.

use serde::{Deserialize, Serialize};

use super::wants::Memory;
use crate::cache::{CacheError, Files, FilesError};

/// The file's name in the cache's directory.
const NAME: &str = "prewarm.json";

/// The form in which it is written now. Another one is not read.
const FORMAT: u32 = 1;

/// The longest file that is read, in bytes: some thousand objects with long lists.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    #[serde(flatten)]
    memory: Memory,
}

/// Reads it. What cannot be read is said, and is nothing.
pub(super) fn load(files: &Files) -> Memory {
    let bytes = match files.kept(NAME, MAX_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Memory::default(),
        Err(error) => {
            tracing::warn!(%error, "what was prewarmed is not known");
            return Memory::default();
        }
    };
    match serde_json::from_slice::<Written>(&bytes) {
        Ok(written) if written.format == FORMAT => written.memory,
        Ok(written) => {
            tracing::warn!(format = written.format, "what another version prewarmed is not known");
            Memory::default()
        }
        Err(error) => {
            tracing::warn!(%error, "what was prewarmed is not known: {NAME} is damaged");
            Memory::default()
        }
    }
}

/// Writes it: after a stop at any moment either the old or the new one is there.
pub(super) fn save(files: &Files, memory: Memory) -> Result<(), CacheError> {
    let bytes = serde_json::to_vec(&Written { format: FORMAT, memory });
    let bytes = bytes.map_err(|error| FilesError::Io {
        what: "write",
        path: NAME.into(),
        error: error.into(),
    })?;
    Ok(files.keep(NAME, &bytes)?)
}
