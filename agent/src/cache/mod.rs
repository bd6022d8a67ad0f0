//! The cache of compiled modules: content-addressed files beside a disposable index.

mod evict;
mod faults;
mod files;
mod index;
mod key;
mod manifest;
mod private;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod power_tests;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use warmstep_registry::Digest;

pub(crate) use evict::Bounds;
pub(crate) use files::{Files, FilesError, open_regular};
pub(crate) use index::{IndexError, ModuleRecord, ReferenceRecord};
pub(crate) use key::{FORMAT, Key, Tier};
pub(crate) use manifest::{FileRecord, Manifest};

use crate::copy::copy_and_hash;
use crate::host::Host;
use evict::Candidate;
use index::Index;
use manifest::{MAX_MANIFEST, ManifestError, Secret};

/// The artifact's name in an entry.
pub(crate) const MODULE_FILE: &str = "module";

/// The name of what was taken out of the module before it was compiled, where something was.
pub(crate) const IMAGE_FILE: &str = "image";

/// Something is wrong with the cache.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    /// With its files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// With its index.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// The open cache of this node.
pub(crate) struct Cache {
    files: Files,
    index: Index,
    secret: Secret,
    identity: String,
    /// What there is at most, in bytes and modules, since it was last counted; nothing before.
    /// Counting reads the whole index, which ten thousand modules make long.
    at_most: Mutex<Option<(u64, usize)>>,
}

impl Cache {
    /// Takes the directory and opens the index. `identity` is what the compiler says of itself.
    pub(crate) fn open(root: &Path, identity: String) -> Result<Self, CacheError> {
        let files = Files::open(root)?;
        let secret = Secret::new(files.secret()?);
        let index = Index::open(&files.index())?;
        let cache = Self { files, index, secret, identity, at_most: Mutex::default() };
        cache.reconcile()?;
        Ok(cache)
    }

    /// The files, for what is written into the cache.
    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Makes the index agree with the entries on disk, after a stop at any moment or when it is
    /// new. What is not to be believed is removed.
    fn reconcile(&self) -> Result<(), CacheError> {
        let on_disk: HashSet<Key> = self.files.keys()?.into_iter().collect();
        let mut indexed = HashSet::new();
        for record in self.index.modules() {
            let (key, _) = record?;
            if on_disk.contains(&key) {
                indexed.insert(key);
            } else {
                self.index.remove_module(&key)?;
            }
        }
        for key in on_disk.difference(&indexed) {
            match self.manifest(key) {
                Ok(manifest) => self.note(key, &manifest)?,
                Err(reason) => {
                    tracing::warn!(key = %key.hex(), %reason, "a cached module is removed");
                    self.files.remove_module(key)?;
                }
            }
        }
        self.index.flush()?;
        Ok(())
    }

    /// The key of a module's form of one tier.
    pub(crate) fn key(&self, wasm: &Digest, tier: Tier) -> Key {
        Key::new(wasm, tier, &self.identity)
    }

    /// The best compiled form of a module that is there.
    pub(crate) fn find(&self, wasm: &Digest) -> Result<Option<(Key, ModuleRecord)>, CacheError> {
        for tier in [Tier::Optimized, Tier::Baseline] {
            let key = self.key(wasm, tier);
            if let Some(record) = self.index.module(&key)? {
                return Ok(Some((key, record)));
            }
        }
        Ok(None)
    }

    /// What a module's files take, in bytes.
    pub(crate) fn bytes_of(&self, wasm: &Digest) -> u64 {
        let compiled = self.find(wasm).ok().flatten().map_or(0, |(_, record)| record.bytes);
        let module = std::fs::metadata(self.files.wasm(wasm)).map_or(0, |metadata| metadata.len());
        compiled + module
    }

    /// Whether this compiled form is there.
    pub(crate) fn contains(&self, key: &Key) -> Result<bool, CacheError> {
        Ok(self.index.module(key)?.is_some())
    }

    /// Notes that a step ran a module now.
    pub(crate) fn touch(&self, key: &Key, record: &ModuleRecord) -> Result<(), CacheError> {
        let used = now();
        // Once a second is often enough to know what was used least recently.
        if record.used != used {
            self.index.put_module(key, &ModuleRecord { used, ..record.clone() })?;
        }
        Ok(())
    }

    /// Reads the manifest of an entry, if this node wrote it.
    pub(crate) fn manifest(&self, key: &Key) -> Result<Manifest, String> {
        let path = Files::module(self.files.root(), key).join("manifest");
        let mut file = open_regular(&path).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        copy_and_hash(&mut file, &mut bytes, MAX_MANIFEST).map_err(|error| error.to_string())?;
        self.secret.open(&bytes, key).map_err(|error: ManifestError| error.to_string())
    }

    /// Publishes what the compiler made of a module: these files.
    pub(crate) fn publish(
        &self,
        made: tempfile::TempDir,
        wasm: &Digest,
        (tier, host): (Tier, Host),
        compile_us: u64,
        files: Vec<FileRecord>,
    ) -> Result<Key, CacheError> {
        let key = self.key(wasm, tier);
        let manifest =
            Manifest { format: FORMAT, key: key.hex(), wasm: *wasm, tier, host, compile_us, files };
        self.files.publish_module(made, &key, &self.secret.seal(&manifest))?;
        self.note(&key, &manifest)?;
        Ok(key)
    }

    /// Makes Wasm durable and moves it into place, under the digest that was checked.
    pub(crate) fn publish_wasm(
        &self,
        made: tempfile::NamedTempFile,
        digest: &Digest,
    ) -> Result<(), CacheError> {
        let bytes = made.as_file().metadata().map_or(0, |metadata| metadata.len());
        self.files.publish_wasm(made, digest)?;
        self.add(bytes, 1);
        Ok(())
    }

    fn add(&self, bytes: u64, modules: usize) {
        let mut at_most = self.at_most.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((most_bytes, most_modules)) = &mut *at_most {
            *most_bytes += bytes;
            *most_modules += modules;
        }
    }

    fn note(&self, key: &Key, manifest: &Manifest) -> Result<(), CacheError> {
        // One more, even where it is a second form: more than there is is on the safe side.
        self.add(manifest.bytes(), 1);
        let record = ModuleRecord {
            wasm: manifest.wasm,
            tier: manifest.tier,
            bytes: manifest.bytes(),
            used: now(),
        };
        Ok(self.index.put_module(key, &record)?)
    }

    /// Forgets one compiled form, whatever is left of it.
    pub(crate) fn discard(&self, key: &Key) -> Result<(), CacheError> {
        self.index.remove_module(key)?;
        Ok(self.files.remove_module(key)?)
    }

    /// Removes a module: every compiled form, its Wasm, and every reference to it. Says how many
    /// bytes of compiled code that gave back, or that there was nothing.
    pub(crate) fn remove(&self, wasm: &Digest) -> Result<Option<u64>, CacheError> {
        let mut freed = None;
        for record in self.index.modules() {
            let (key, record) = record?;
            if record.wasm == *wasm {
                self.discard(&key)?;
                *freed.get_or_insert(0) += record.bytes;
            }
        }
        for record in self.index.references() {
            let (name, record) = record?;
            if record.wasm == *wasm {
                self.index.remove_reference(&name)?;
            }
        }
        self.files.remove_wasm(wasm)?;
        Ok(freed)
    }

    /// Removes what is over the bounds, least recently used first, but nothing for which `kept`
    /// says so. Says what was removed.
    pub(crate) fn evict(
        &self,
        bounds: Bounds,
        kept: impl Fn(&Digest) -> bool,
    ) -> Result<Vec<Digest>, CacheError> {
        let at_most = *self.at_most.lock().unwrap_or_else(PoisonError::into_inner);
        if at_most
            .is_some_and(|(bytes, modules)| bytes <= bounds.bytes && modules <= bounds.modules)
        {
            return Ok(Vec::new());
        }
        let mut there: HashMap<Digest, Candidate> = HashMap::new();
        let candidate = |wasm| Candidate { wasm, bytes: 0, used: 0, kept: kept(&wasm) };
        for (_, record) in self.modules()? {
            let module = there.entry(record.wasm).or_insert_with(|| candidate(record.wasm));
            module.bytes += record.bytes;
            module.used = module.used.max(record.used);
        }
        for (wasm, bytes) in self.files.all_wasm()? {
            // Wasm without a compiled form could not be compiled: it was used never.
            there.entry(wasm).or_insert_with(|| candidate(wasm)).bytes += bytes;
        }
        let (mut bytes, mut modules) = (0, 0);
        for module in there.values() {
            bytes += module.bytes;
            modules += 1;
        }
        let chosen = evict::choose(there.into_values().collect(), bounds);
        for wasm in &chosen {
            self.remove(wasm)?;
        }
        // Before the removals: more than there is, and so on the safe side.
        if chosen.is_empty() {
            *self.at_most.lock().unwrap_or_else(PoisonError::into_inner) = Some((bytes, modules));
        }
        Ok(chosen)
    }

    /// What a reference was last seen to mean, and how many seconds ago.
    pub(crate) fn reference(
        &self,
        name: &str,
    ) -> Result<Option<(ReferenceRecord, u64)>, CacheError> {
        let record = self.index.reference(name)?;
        Ok(record.map(|record| {
            let age = now().saturating_sub(record.seen);
            (record, age)
        }))
    }

    /// Notes what a reference means now.
    pub(crate) fn note_reference(
        &self,
        name: &str,
        wasm: Digest,
        bytes: u64,
        manifest: String,
    ) -> Result<(), CacheError> {
        let record = ReferenceRecord { wasm, bytes, manifest, seen: now() };
        Ok(self.index.put_reference(name, &record)?)
    }

    /// Every compiled form in the cache.
    pub(crate) fn modules(&self) -> Result<Vec<(Key, ModuleRecord)>, CacheError> {
        Ok(self.index.modules().collect::<Result<_, _>>()?)
    }

    /// Every reference that is known.
    pub(crate) fn references(&self) -> Result<Vec<(String, ReferenceRecord)>, CacheError> {
        Ok(self.index.references().collect::<Result<_, _>>()?)
    }

    /// Writes the index to disk.
    pub(crate) fn flush(&self) -> Result<(), CacheError> {
        Ok(self.index.flush()?)
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
