//! The index: what is in the cache, found without touching its files. The only file that names sled.
//!
//! It is disposable. Whatever is wrong with it, it is moved aside and filled again from the files;
//! only what tags were last seen to mean is lost with it, and that the registries know.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use warmstep_registry::Digest;

use super::key::{Key, Tier};

/// The most of its own cache that sled keeps in memory, in bytes. Its default is 1 GiB.
const SLED_CACHE: u64 = 8 * 1024 * 1024;

/// A compiled module in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModuleRecord {
    /// The Wasm it was compiled from.
    pub(crate) wasm: Digest,
    /// How it was compiled.
    pub(crate) tier: Tier,
    /// The length of its files, in bytes.
    pub(crate) bytes: u64,
    /// When a step last ran it, in seconds since 1970.
    pub(crate) used: u64,
}

/// What a reference was last seen to mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReferenceRecord {
    /// The Wasm behind it.
    pub(crate) wasm: Digest,
    /// The length of that Wasm, in bytes.
    pub(crate) bytes: u64,
    /// The digest of the manifest that names it.
    pub(crate) manifest: String,
    /// When the registry said so, in seconds since 1970.
    pub(crate) seen: u64,
}

/// The index cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the cache's index: {0}")]
pub(crate) struct IndexError(String);

impl From<sled::Error> for IndexError {
    fn from(error: sled::Error) -> Self {
        Self(error.to_string())
    }
}

/// The open index.
pub(crate) struct Index {
    database: sled::Db,
    modules: sled::Tree,
    references: sled::Tree,
}

impl Index {
    /// Opens the index, or creates it. A new one is empty, and filled from the files by its owner.
    ///
    /// What cannot be opened is moved aside, once: sled 0.34 is known not to open some databases
    /// after an abrupt stop, and to panic over others.
    pub(crate) fn open(path: &Path) -> Result<Self, IndexError> {
        match Self::try_open(path) {
            Ok(index) => Ok(index),
            Err(error) => {
                let aside = path.with_extension("broken");
                tracing::warn!(
                    %error, aside = %aside.display(),
                    "the index cannot be opened: it is moved aside and made again from the files"
                );
                // At most one is kept, for whoever wants to look at it.
                let _ = std::fs::remove_dir_all(&aside);
                let moved = std::fs::rename(path, &aside).or_else(|_| std::fs::remove_file(path));
                moved.map_err(|error| IndexError(error.to_string()))?;
                Self::try_open(path)
            }
        }
    }

    fn try_open(path: &Path) -> Result<Self, IndexError> {
        let open = || -> Result<Self, IndexError> {
            let database = sled::Config::new()
                .path(path)
                .cache_capacity(SLED_CACHE)
                .mode(sled::Mode::LowSpace)
                .open()?;
            let modules = database.open_tree("modules")?;
            let references = database.open_tree("references")?;
            let index = Self { database, modules, references };
            // Every record is read once, so that a bad one shows now and not under a step.
            for record in index.modules() {
                record?;
            }
            for record in index.references() {
                record?;
            }
            Ok(index)
        };
        catch_unwind(AssertUnwindSafe(open))
            .unwrap_or_else(|_| Err(IndexError("sled panicked while opening it".to_owned())))
    }

    /// A module's record.
    pub(crate) fn module(&self, key: &Key) -> Result<Option<ModuleRecord>, IndexError> {
        get(&self.modules, key.bytes())
    }

    /// Notes a module.
    pub(crate) fn put_module(&self, key: &Key, record: &ModuleRecord) -> Result<(), IndexError> {
        put(&self.modules, key.bytes(), record)
    }

    /// Forgets a module.
    pub(crate) fn remove_module(&self, key: &Key) -> Result<(), IndexError> {
        self.modules.remove(key.bytes())?;
        Ok(())
    }

    /// All modules.
    pub(crate) fn modules(&self) -> impl Iterator<Item = Result<(Key, ModuleRecord), IndexError>> {
        self.modules.iter().map(|pair| {
            let (key, value) = pair?;
            let key = Key::from_hex(&hex::encode(&key))
                .ok_or_else(|| IndexError("a key is not 32 bytes".to_owned()))?;
            Ok((key, parse(&value)?))
        })
    }

    /// What a reference was last seen to mean.
    pub(crate) fn reference(&self, name: &str) -> Result<Option<ReferenceRecord>, IndexError> {
        get(&self.references, name.as_bytes())
    }

    /// Notes what a reference means.
    pub(crate) fn put_reference(
        &self,
        name: &str,
        record: &ReferenceRecord,
    ) -> Result<(), IndexError> {
        put(&self.references, name.as_bytes(), record)
    }

    /// Forgets what a reference means.
    pub(crate) fn remove_reference(&self, name: &str) -> Result<(), IndexError> {
        self.references.remove(name.as_bytes())?;
        Ok(())
    }

    /// All references.
    pub(crate) fn references(
        &self,
    ) -> impl Iterator<Item = Result<(String, ReferenceRecord), IndexError>> {
        self.references.iter().map(|pair| {
            let (name, value) = pair?;
            let name = String::from_utf8_lossy(&name).into_owned();
            Ok((name, parse(&value)?))
        })
    }

    /// Writes everything to disk.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        self.database.flush()?;
        Ok(())
    }
}

fn get<T: DeserializeOwned>(tree: &sled::Tree, key: &[u8]) -> Result<Option<T>, IndexError> {
    tree.get(key)?.map(|value| parse(&value)).transpose()
}

fn put<T: Serialize>(tree: &sled::Tree, key: &[u8], record: &T) -> Result<(), IndexError> {
    let value = serde_json::to_vec(record).map_err(|error| IndexError(error.to_string()))?;
    tree.insert(key, value)?;
    Ok(())
}

fn parse<T: DeserializeOwned>(value: &[u8]) -> Result<T, IndexError> {
    serde_json::from_slice(value).map_err(|error| IndexError(format!("a bad record: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ModuleRecord {
        ModuleRecord { wasm: Digest::of(b"w"), tier: Tier::Optimized, bytes: 5, used: 9 }
    }

    #[test]
    fn keeps_records_across_openings() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index");
        let key = Key::new(&Digest::of(b"w"), Tier::Optimized, "x");
        {
            let index = Index::open(&path).unwrap();
            index.put_module(&key, &record()).unwrap();
            index.flush().unwrap();
        }
        let index = Index::open(&path).unwrap();
        assert_eq!(index.module(&key).unwrap(), Some(record()));
        assert_eq!(index.modules().count(), 1);
    }

    #[test]
    fn a_garbled_database_is_moved_aside_and_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index");
        let key = Key::new(&Digest::of(b"w"), Tier::Optimized, "x");
        {
            let index = Index::open(&path).unwrap();
            index.put_module(&key, &record()).unwrap();
            index.flush().unwrap();
        }
        for name in ["conf", "db"] {
            let file = path.join(name);
            let length = std::fs::metadata(&file).unwrap().len();
            std::fs::write(&file, vec![0xA5; usize::try_from(length).unwrap()]).unwrap();
        }
        let index = Index::open(&path).unwrap();
        assert_eq!(index.module(&key).unwrap(), None);
        index.put_module(&key, &record()).unwrap();
        assert_eq!(index.module(&key).unwrap(), Some(record()));
    }
}
