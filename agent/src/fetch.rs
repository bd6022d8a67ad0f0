//! Brings a module's Wasm into the cache: from a registry, or from a descriptor of the step's pod.

use std::fs::File;
use std::io::Seek;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use warmstep_registry::{Digest, Reference, Registries, RegistryError};
use warmstep_wire::message::Phase;

use crate::cache::{Cache, CacheError};
use crate::copy::{CopyError, copy_and_hash};
use crate::flight::Watcher;

/// How long reading a pod's file may take: its file system may be the pod's own, and never answer.
const FILE_DEADLINE: Duration = Duration::from_secs(30);

/// A module's Wasm cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Not from the registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Not from the file that the step sent.
    #[error("{0}")]
    File(String),
    /// It is not there at all.
    #[error("{0}")]
    NotFound(String),
    /// The cache does not take it.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The agent failed.
    #[error("{0}")]
    Failed(String),
}

/// Where Wasm comes from when it is not in the cache.
#[derive(Clone, Debug)]
enum Origin {
    Registry(Reference),
    File(Arc<OwnedFd>),
    Nowhere,
}

/// Which Wasm is meant, and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Its SHA-256.
    pub(crate) wasm: Digest,
    origin: Origin,
}

impl Wanted {
    /// What is in the cache or nowhere.
    pub(crate) fn cached(wasm: Digest) -> Self {
        Self { wasm, origin: Origin::Nowhere }
    }

    /// What a reference is known to mean.
    pub(crate) fn referenced(wasm: Digest, reference: Reference) -> Self {
        Self { wasm, origin: Origin::Registry(reference) }
    }

    /// Names the work of getting it: steps that want the same from the same place share it.
    pub(crate) fn flight(&self) -> String {
        let place = match &self.origin {
            Origin::Registry(reference) => reference.to_string(),
            // A file's reader may never answer: nobody waits for somebody else's file either.
            Origin::File(file) => format!("file {:p}", Arc::as_ptr(file)),
            Origin::Nowhere => "cache".to_owned(),
        };
        format!("{} {place}", self.wasm)
    }
}

/// Asks the registry what a reference means, and notes it.
pub(crate) async fn resolve(
    registries: &Registries,
    cache: &Cache,
    reference: &Reference,
) -> Result<Wanted, FetchError> {
    let resolved = registries.resolve(reference).await?;
    let wasm = resolved.module();
    let manifest = resolved.manifest().to_string();
    cache.note_reference(&reference.to_string(), wasm, resolved.size(), manifest)?;
    Ok(Wanted::referenced(wasm, reference.clone()))
}

/// Reads a step's file to its end, to know what it is.
pub(crate) async fn identify_file(file: OwnedFd, most: u64) -> Result<Wanted, FetchError> {
    let file = Arc::new(file);
    let read = Arc::clone(&file);
    let digest = within_deadline(move || {
        let mut file = regular(&read)?;
        let hashed = copy_and_hash(&mut file, &mut std::io::sink(), most);
        Ok(hashed?.0)
    });
    Ok(Wanted { wasm: digest.await?, origin: Origin::File(file) })
}

/// Brings the Wasm into the cache, unless it is there.
pub(crate) async fn fetch(
    registries: &Registries,
    cache: &Arc<Cache>,
    wanted: Wanted,
    most: u64,
    watcher: &Watcher,
) -> Result<(), FetchError> {
    let there = Arc::clone(cache);
    let wasm = wanted.wasm;
    let found =
        blocking(move || Ok(there.files().open_wasm(&wasm).map_err(CacheError::from)?.is_some()));
    if found.await? {
        return Ok(());
    }
    match wanted.origin {
        Origin::Registry(reference) => pull(registries, cache, &reference, wasm, watcher).await,
        Origin::File(file) => {
            let cache = Arc::clone(cache);
            within_deadline(move || copy(&cache, &file, wasm, most)).await
        }
        Origin::Nowhere => Err(FetchError::NotFound(format!(
            "{wasm} is not in the cache: name the module by its reference once"
        ))),
    }
}

async fn pull(
    registries: &Registries,
    cache: &Arc<Cache>,
    reference: &Reference,
    wasm: Digest,
    watcher: &Watcher,
) -> Result<(), FetchError> {
    watcher.tell(Phase::Pull, 0, 0);
    let resolved = registries.resolve(reference).await?;
    if resolved.module() != wasm {
        return Err(FetchError::Failed(format!(
            "{reference} has just changed in its registry: run the step again"
        )));
    }
    let made = cache.files().begin_wasm().map_err(CacheError::from)?;
    let reopened = made.reopen().map_err(|error| FetchError::Failed(error.to_string()))?;
    let mut sink = tokio::fs::File::from_std(reopened);
    let progress = |done, total| watcher.tell(Phase::Pull, done, total);
    registries.pull(&resolved, &mut sink, progress).await?;
    let cache = Arc::clone(cache);
    blocking(move || Ok(cache.publish_wasm(made, &wasm)?)).await
}

/// Copies a step's file, which anybody may be changing, and keeps it only if it is what it was.
fn copy(cache: &Cache, file: &OwnedFd, wasm: Digest, most: u64) -> Result<(), FetchError> {
    let mut file = regular(file)?;
    let mut made = cache.files().begin_wasm().map_err(CacheError::from)?;
    let (digest, _) = copy_and_hash(&mut file, &mut made, most)?;
    if digest != wasm {
        return Err(FetchError::File("the module's file changed while it was read".to_owned()));
    }
    Ok(cache.publish_wasm(made, &wasm)?)
}

/// The step's file from its beginning; it must be one that ends.
fn regular(file: &OwnedFd) -> Result<File, FetchError> {
    let mut file = File::from(file.try_clone().map_err(unreadable)?);
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(FetchError::File("the module is not a regular file".to_owned()));
    }
    file.rewind().map_err(unreadable)?;
    Ok(file)
}

impl From<CopyError> for FetchError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Read(error) => unreadable(error),
            CopyError::Write(error) => {
                Self::Failed(format!("the module cannot be written to the cache: {error}"))
            }
            CopyError::TooLong(most) => Self::File(format!(
                "the module is larger than the {most} bytes that this node allows \
                 (limits.module_bytes)"
            )),
        }
    }
}

fn unreadable(error: std::io::Error) -> FetchError {
    FetchError::File(format!("the module's file cannot be read: {error}"))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(FetchError::Failed(format!("the agent failed: {error}"))))
}

async fn within_deadline<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    tokio::time::timeout(FILE_DEADLINE, blocking(work)).await.unwrap_or_else(|_| {
        let seconds = FILE_DEADLINE.as_secs();
        Err(FetchError::File(format!("the module's file was not read within {seconds} s")))
    })
}
