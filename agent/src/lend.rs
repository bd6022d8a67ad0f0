//! What is lent to pods: descriptors that nobody can write through, checked against their manifest.
//!
//! A root process in a pod can open `/proc/self/fd/N` again for writing. It fails where the
//! descriptor was opened through a read-only mount, and where it is a sealed memfd; nothing else is
//! lent.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustix::fs::{MemfdFlags, SealFlags, StatVfsMountFlags};
use warmstep_registry::Digest;
use warmstep_wire::plan::Plan;

use crate::cache::{FileRecord, Files, IMAGE_FILE, Key, MODULE_FILE, Manifest, open_regular};
use crate::copy::copy_and_hash;
use crate::host::Host;

/// A module that can be lent, as often as it is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Lendable {
    /// The artifact.
    pub(crate) module: Arc<OwnedFd>,
    /// What was taken out of the module before it was compiled.
    pub(crate) image: Option<Arc<OwnedFd>>,
    /// What it runs on.
    pub(crate) host: Host,
}

/// Something cannot be lent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LendError {
    /// A file is not what its manifest says.
    #[error("its file {0} is not what was compiled")]
    Changed(String),
    /// A file could be changed by somebody else.
    #[error("its file {0} belongs to somebody else, can be written by others, or has another name")]
    Exposed(String),
    /// There is no artifact in it.
    #[error("it has no artifact")]
    Empty,
    /// The directory to lend from can be written through.
    #[error("{0} is not on a read-only mount: what is lent from it could be rewritten by a pod")]
    Writable(PathBuf),
    /// The system says no.
    #[error("cannot lend {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> LendError + '_ {
    move |error| LendError::Io { path: path.to_owned(), error }
}

/// How many modules are held at once. Each holds two descriptors; another that is wanted is opened
/// and checked again.
const MOST_HELD: usize = 256;

struct Held {
    lendable: Lendable,
    used: Instant,
    /// Bytes of memory that this costs: none for files on a read-only mount.
    memory: u64,
}

/// The runners, and the modules that were checked since this agent started.
pub(crate) struct Lender {
    runner: OwnedFd,
    wasix_runner: Option<OwnedFd>,
    cache: PathBuf,
    read_only: Option<PathBuf>,
    most_memory: u64,
    held: Mutex<HashMap<Key, Held>>,
}

impl Lender {
    /// Opens the runners; a node may be without the one for WASIX. `read_only` shows the cache through a read-only mount.
    pub(crate) fn new(
        runner: &Path,
        wasix_runner: Option<&Path>,
        cache: &Path,
        read_only: Option<&Path>,
        most_memory: u64,
    ) -> Result<Self, LendError> {
        if let Some(path) = read_only {
            let directory = File::open(path).map_err(failed(path))?;
            if !is_read_only(&directory).map_err(failed(path))? {
                return Err(LendError::Writable(path.to_owned()));
            }
        }
        Ok(Self {
            runner: open_program(runner)?,
            wasix_runner: wasix_runner.map(open_program).transpose()?,
            cache: cache.to_owned(),
            read_only: read_only.map(Path::to_owned),
            most_memory,
            held: Mutex::default(),
        })
    }

    /// The runner for a kind of host, if this node has it.
    pub(crate) fn runner(&self, host: Host) -> Option<&OwnedFd> {
        match host {
            Host::Preview1 => Some(&self.runner),
            Host::Wasix => self.wasix_runner.as_ref(),
        }
    }

    /// A module that was checked before.
    pub(crate) fn held(&self, key: &Key) -> Option<Lendable> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let found = held.get_mut(key)?;
        found.used = Instant::now();
        Some(found.lendable.clone())
    }

    /// Opens and checks the files of an entry. This reads all of them: once an agent's life.
    pub(crate) fn hold(&self, key: &Key, manifest: &Manifest) -> Result<Lendable, LendError> {
        let root = self.read_only.as_ref().unwrap_or(&self.cache);
        let directory = Files::module(root, key);
        let record = manifest.file(MODULE_FILE).ok_or(LendError::Empty)?;
        let (module, mut memory) = self.check(&directory, record)?;
        let image = match manifest.file(IMAGE_FILE) {
            Some(record) => {
                let (image, more) = self.check(&directory, record)?;
                memory += more;
                Some(Arc::new(image))
            }
            None => None,
        };
        let lendable = Lendable { module: Arc::new(module), image, host: manifest.host };
        self.keep(key, &lendable, memory);
        Ok(lendable)
    }

    /// Lends nothing of this entry any more. Steps that run it keep what they have.
    pub(crate) fn release(&self, key: &Key) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn keep(&self, key: &Key, lendable: &Lendable, memory: u64) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(*key, Held { lendable: lendable.clone(), used: Instant::now(), memory });
        loop {
            let too_many = held.len() > MOST_HELD;
            if !too_many && held.values().map(|held| held.memory).sum::<u64>() <= self.most_memory {
                break;
            }
            let oldest = held
                .iter()
                .filter(|(other, held)| *other != key && (too_many || held.memory > 0))
                .min_by_key(|(_, held)| held.used)
                .map(|(oldest, _)| *oldest);
            let Some(oldest) = oldest else { break };
            held.remove(&oldest);
        }
    }

    /// Opens one file and checks it on the very descriptor that will be lent.
    fn check(&self, directory: &Path, record: &FileRecord) -> Result<(OwnedFd, u64), LendError> {
        let path = directory.join(&record.name);
        let mut file = open_regular(&path).map_err(failed(&path))?;
        let changed = || LendError::Changed(record.name.clone());
        let metadata = file.metadata().map_err(failed(&path))?;
        // A second name is a second way to the same bytes, and no mount stands before that one.
        let mine = metadata.uid() == rustix::process::geteuid().as_raw();
        if !mine || metadata.mode() & 0o022 != 0 || metadata.nlink() != 1 {
            return Err(LendError::Exposed(record.name.clone()));
        }
        if metadata.len() != record.bytes {
            return Err(changed());
        }
        if self.read_only.is_some() && is_read_only(&file).map_err(failed(&path))? {
            let (digest, _) = copy_and_hash(&mut file, &mut io::sink(), record.bytes)
                .map_err(|error| failed(&path)(error.into()))?;
            let same = digest == record.digest;
            return if same { Ok((file.into(), 0)) } else { Err(changed()) };
        }
        let (copy, digest) =
            seal_file(file, Some(record.bytes), MemfdFlags::NOEXEC_SEAL).map_err(failed(&path))?;
        if digest == record.digest { Ok((copy, record.bytes)) } else { Err(changed()) }
    }
}

/// Opens a program such that nobody can write to it.
fn open_program(path: &Path) -> Result<OwnedFd, LendError> {
    let file = open_regular(path).map_err(failed(path))?;
    if is_read_only(&file).map_err(failed(path))? {
        return Ok(file.into());
    }
    Ok(seal_file(file, None, MemfdFlags::EXEC).map_err(failed(path))?.0)
}

/// A launch plan as a sealed memfd.
pub(crate) fn seal_plan(plan: &Plan) -> io::Result<OwnedFd> {
    let mut file = memfd("warmstep-plan", MemfdFlags::NOEXEC_SEAL)?;
    file.write_all(&plan.encode())?;
    seal(file)
}

/// Copies a file into a sealed memfd and says what was copied.
fn seal_file(
    mut file: File,
    most: Option<u64>,
    executable: MemfdFlags,
) -> io::Result<(OwnedFd, Digest)> {
    let mut copy = memfd("warmstep-module", executable)?;
    let (digest, _) = copy_and_hash(&mut file, &mut copy, most.unwrap_or(u64::MAX))?;
    Ok((seal(copy)?, digest))
}

/// Whether a memfd can be executed has to be said since Linux 6.3, and cannot be said before.
fn memfd(name: &str, executable: MemfdFlags) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(name, flags | executable) {
        Err(rustix::io::Errno::INVAL) => Ok(rustix::fs::memfd_create(name, flags)?.into()),
        other => Ok(other?.into()),
    }
}

fn seal(file: File) -> io::Result<OwnedFd> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

fn is_read_only(file: impl AsFd) -> io::Result<bool> {
    Ok(rustix::fs::fstatvfs(file)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
#[path = "lend_tests.rs"]
mod tests;
