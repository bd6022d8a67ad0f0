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

/// One file that can be lent.
struct Part {
    file: OwnedFd,
    /// Bytes of memory that this costs: none for files on a read-only mount.
    memory: u64,
}

/// The files of an entry, read and ready to be lent.
pub(crate) struct Taken {
    module: Part,
    image: Option<Part>,
}

struct Held {
    lendable: Lendable,
    used: Instant,
    /// Bytes of memory, as of its parts.
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
        let directory = Files::module(self.root(), key);
        let record = manifest.file(MODULE_FILE).ok_or(LendError::Empty)?;
        let module = self.check(&directory, record)?;
        let image = manifest.file(IMAGE_FILE).map(|record| self.check(&directory, record));
        Ok(self.keep(key, manifest.host, Taken { module, image: image.transpose()? }))
    }

    /// Opens and reads what the compiler has just made, in a directory of the cache: what this says
    /// of the files is what their manifest has to say, and what is lent once that is published.
    pub(crate) fn take(&self, made: &Path) -> Result<(Vec<FileRecord>, Taken), LendError> {
        let directory = self.root().join(made.strip_prefix(&self.cache).unwrap_or(made));
        let mut records = Vec::new();
        let mut take = |name: &str| {
            let (file, path, bytes) = self.open(&directory, name)?;
            let (taken, digest) = self.read(file, &path, bytes)?;
            records.push(FileRecord { name: name.to_owned(), bytes, digest });
            Ok(taken)
        };
        let module = take(MODULE_FILE)?;
        let image = match take(IMAGE_FILE) {
            Err(LendError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => None,
            image => Some(image?),
        };
        Ok((records, Taken { module, image }))
    }

    /// Lends this as the files of an entry from now on.
    pub(crate) fn keep(&self, key: &Key, host: Host, taken: Taken) -> Lendable {
        let memory = taken.module.memory + taken.image.as_ref().map_or(0, |image| image.memory);
        let lendable = Lendable {
            module: Arc::new(taken.module.file),
            image: taken.image.map(|image| Arc::new(image.file)),
            host,
        };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(*key, Held { lendable: lendable.clone(), used: Instant::now(), memory });
        self.make_room(&mut held, key);
        lendable
    }

    /// Lends nothing of this entry any more. Steps that run it keep what they have.
    pub(crate) fn release(&self, key: &Key) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Gives up what was used least recently, but not this one.
    fn make_room(&self, held: &mut HashMap<Key, Held>, key: &Key) {
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

    /// Where the cache is seen from pods' descriptors.
    fn root(&self) -> &Path {
        self.read_only.as_ref().unwrap_or(&self.cache)
    }

    /// Opens one file and checks it on the very descriptor that will be lent.
    fn check(&self, directory: &Path, record: &FileRecord) -> Result<Part, LendError> {
        let changed = || LendError::Changed(record.name.clone());
        let (file, path, bytes) = self.open(directory, &record.name)?;
        if bytes != record.bytes {
            return Err(changed());
        }
        let (part, digest) = self.read(file, &path, bytes)?;
        if digest == record.digest { Ok(part) } else { Err(changed()) }
    }

    /// Opens a file that nobody else can change; says where it is, and its length in bytes.
    fn open(&self, directory: &Path, name: &str) -> Result<(File, PathBuf, u64), LendError> {
        let path = directory.join(name);
        let file = open_regular(&path).map_err(failed(&path))?;
        let metadata = file.metadata().map_err(failed(&path))?;
        // A second name is a second way to the same bytes, and no mount stands before that one.
        let mine = metadata.uid() == rustix::process::geteuid().as_raw();
        if !mine || metadata.mode() & 0o022 != 0 || metadata.nlink() != 1 {
            return Err(LendError::Exposed(name.to_owned()));
        }
        Ok((file, path, metadata.len()))
    }

    /// Reads a file of so many bytes, and makes of it what can be lent.
    fn read(&self, mut file: File, path: &Path, bytes: u64) -> Result<(Part, Digest), LendError> {
        if self.read_only.is_some() && is_read_only(&file).map_err(failed(path))? {
            let (digest, _) = copy_and_hash(&mut file, &mut io::sink(), bytes)
                .map_err(|error| failed(path)(error.into()))?;
            return Ok((Part { file: file.into(), memory: 0 }, digest));
        }
        let (file, digest) =
            seal_file(file, Some(bytes), MemfdFlags::NOEXEC_SEAL).map_err(failed(path))?;
        Ok((Part { file, memory: bytes }, digest))
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
