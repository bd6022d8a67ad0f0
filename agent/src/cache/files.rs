//! The cache's files: written aside, made durable, then renamed into place.
//!
//! ```text
//! lock                      held by the one agent that uses this directory
//! secret                    32 bytes that authenticate what this node compiled
//! index/                    sled; disposable
//! prewarm.json              what is wanted warm
//! wasm/DIGEST               modules as they came, by their SHA-256
//! modules/KEY/{module,image,manifest}
//! tmp/                      what is being written; emptied at each start
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use warmstep_registry::Digest;

use super::faults::change;
use super::key::Key;
use super::private::{check_private, create_private, lock};
use crate::copy::copy_and_hash;

/// The cache's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    /// Another agent uses it.
    #[error("another agent uses the cache {0}: stop it, or choose another --cache")]
    Locked(PathBuf),
    /// Somebody else could change it.
    #[error(
        "the cache {path} {reason}: native code is run from it, so it must be its agent's alone"
    )]
    Exposed {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system says no.
    #[error("cannot {what} {path}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        error: io::Error,
    },
}

/// Turns an I/O error into one that says what was tried on which path.
pub(super) fn failed<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> FilesError + 'a {
    move |error| FilesError::Io { what, path: path.to_owned(), error }
}

/// The directory, held for as long as this value lives.
pub(crate) struct Files {
    root: PathBuf,
    _lock: File,
}

impl Files {
    /// Takes the directory, or creates it.
    pub(crate) fn open(root: &Path) -> Result<Self, FilesError> {
        create_private(root)?;
        check_private(root)?;
        let lock = lock(root)?;
        let files = Self { root: root.to_owned(), _lock: lock };
        let tmp = files.tmp();
        match fs::remove_dir_all(&tmp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("empty", &tmp)(error));
            }
            _ => {}
        }
        for directory in [tmp, root.join("wasm"), root.join("modules")] {
            create_private(&directory)?;
            check_private(&directory)?;
        }
        Ok(files)
    }

    /// Where things are written before they are renamed into place.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The index's directory.
    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    /// An entry's directory, under this root or another that shows the same files.
    pub(crate) fn module(root: &Path, key: &Key) -> PathBuf {
        root.join("modules").join(key.hex())
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where a module's Wasm is kept.
    pub(crate) fn wasm(&self, digest: &Digest) -> PathBuf {
        self.root.join("wasm").join(digest.hex())
    }

    /// The node's secret, made on the first start.
    pub(crate) fn secret(&self) -> Result<[u8; 32], FilesError> {
        let path = self.root.join("secret");
        match fs::read(&path) {
            Ok(bytes) => {
                check_private(&path)?;
                if let Ok(secret) = bytes.try_into() {
                    return Ok(secret);
                }
                tracing::warn!(path = %path.display(), "the secret is damaged: a new one is made");
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read", &path)(error)),
        }
        let mut secret = [0; 32];
        File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut secret))
            .map_err(failed("read", Path::new("/dev/urandom")))?;
        self.keep("secret", &secret)?;
        Ok(secret)
    }

    /// What was kept under a name beside the modules, if it is there and no longer than `most` bytes.
    pub(crate) fn kept(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, FilesError> {
        let path = self.root.join(name);
        let mut file = match open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        check_private(&path)?;
        let mut bytes = Vec::new();
        copy_and_hash(&mut file, &mut bytes, most)
            .map_err(io::Error::from)
            .map_err(failed("read", &path))?;
        Ok(Some(bytes))
    }

    /// Keeps something under a name beside the modules, in place of what was there.
    pub(crate) fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), FilesError> {
        let path = self.root.join(name);
        let write = || -> io::Result<()> {
            let mut file = change(|| tempfile::NamedTempFile::new_in(self.tmp()))?;
            change(|| file.write_all(bytes))?;
            change(|| file.as_file().sync_all())?;
            change(|| file.persist(&path).map_err(|error| error.error))?;
            sync_directory(&self.root)
        };
        write().map_err(failed("write", &path))
    }

    /// An empty directory for an entry that is being made.
    pub(crate) fn begin_module(&self) -> Result<tempfile::TempDir, FilesError> {
        tempfile::tempdir_in(self.tmp()).map_err(failed("create a directory in", &self.tmp()))
    }

    /// Begins to make durable what is in an entry's directory so far: there will be less to wait for.
    pub(crate) fn sync(&self, made: &Path) -> Result<(), FilesError> {
        sync_files(made).map_err(failed("write", made))
    }

    /// Makes an entry durable and moves it into place. Whatever stood there before is replaced.
    pub(crate) fn publish_module(
        &self,
        made: tempfile::TempDir,
        key: &Key,
        manifest: &[u8],
    ) -> Result<(), FilesError> {
        let target = Self::module(&self.root, key);
        let write = || -> io::Result<()> {
            change(|| fs::write(made.path().join("manifest"), manifest))?;
            sync_files(made.path())?;
            sync_directory(made.path())?;
            self.take_away(&target)?;
            change(|| fs::rename(made.path(), &target))?;
            sync_directory(&self.root.join("modules"))
        };
        write().map_err(failed("write", &target))
        // `made` has moved away; dropping it finds nothing to remove.
    }

    /// Removes an entry. Steps that run it keep what they were lent.
    pub(crate) fn remove_module(&self, key: &Key) -> Result<(), FilesError> {
        let path = Self::module(&self.root, key);
        self.take_away(&path).map_err(failed("remove", &path))
    }

    /// Removes a directory as a whole: after a stop at any moment it is there or it is not.
    fn take_away(&self, directory: &Path) -> io::Result<()> {
        let aside = tempfile::tempdir_in(self.tmp())?;
        match change(|| fs::rename(directory, aside.path())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => change(|| aside.close()),
        }
    }

    /// A file for Wasm that is on its way.
    pub(crate) fn begin_wasm(&self) -> Result<tempfile::NamedTempFile, FilesError> {
        tempfile::NamedTempFile::new_in(self.tmp()).map_err(failed("create a file in", &self.tmp()))
    }

    /// Makes Wasm durable and moves it into place, under the digest that was checked.
    pub(crate) fn publish_wasm(
        &self,
        made: tempfile::NamedTempFile,
        digest: &Digest,
    ) -> Result<(), FilesError> {
        let target = self.wasm(digest);
        let write = || -> io::Result<()> {
            change(|| made.as_file().sync_all())?;
            change(|| made.persist(&target).map_err(|error| error.error))?;
            sync_directory(&self.root.join("wasm"))
        };
        write().map_err(failed("write", &target))
    }

    /// The Wasm of a digest, if it is there and is what its name says. What is not, is removed.
    pub(crate) fn open_wasm(&self, digest: &Digest) -> Result<Option<File>, FilesError> {
        match self.open_unchecked_wasm(digest)? {
            Some(file) => Ok(self.is_wasm(digest, &file)?.then_some(file)),
            None => Ok(None),
        }
    }

    /// What lies under a digest's name: see [`Files::is_wasm`].
    pub(crate) fn open_unchecked_wasm(&self, digest: &Digest) -> Result<Option<File>, FilesError> {
        let path = self.wasm(digest);
        match open_regular(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("open", &path)(error)),
        }
    }

    /// Whether a file that lay under a digest's name is what the name says. What is not, is removed.
    /// The file's offset stays where it is.
    pub(crate) fn is_wasm(&self, digest: &Digest, file: &File) -> Result<bool, FilesError> {
        let path = self.wasm(digest);
        let (found, _) = copy_and_hash(&mut At { file, offset: 0 }, &mut io::sink(), u64::MAX)
            .map_err(io::Error::from)
            .map_err(failed("read", &path))?;
        if found != *digest {
            tracing::warn!(%digest, "cached Wasm is damaged: it is removed");
            self.remove_wasm(digest)?;
        }
        Ok(found == *digest)
    }

    /// Removes a module's Wasm.
    pub(crate) fn remove_wasm(&self, digest: &Digest) -> Result<(), FilesError> {
        let path = self.wasm(digest);
        match change(|| fs::remove_file(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// The Wasm that is there, and its length in bytes.
    pub(crate) fn all_wasm(&self) -> Result<Vec<(Digest, u64)>, FilesError> {
        let path = self.root.join("wasm");
        let mut all = Vec::new();
        for file in fs::read_dir(&path).map_err(failed("list", &path))? {
            let file = file.map_err(failed("list", &path))?;
            // A file that goes meanwhile is none.
            let (name, metadata) = (file.file_name(), file.metadata());
            if let (Some(digest), Ok(metadata)) =
                (name.to_str().and_then(Digest::from_hex), metadata)
            {
                all.push((digest, metadata.len()));
            }
        }
        Ok(all)
    }

    /// The keys of all entries on disk.
    pub(crate) fn keys(&self) -> Result<Vec<Key>, FilesError> {
        let path = self.root.join("modules");
        let mut keys = Vec::new();
        for file in fs::read_dir(&path).map_err(failed("list", &path))? {
            let name = file.map_err(failed("list", &path))?.file_name();
            keys.extend(name.to_str().and_then(Key::from_hex));
        }
        Ok(keys)
    }
}

/// Reads a file whose offset somebody else moves.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// Opens a regular file for reading, and nothing that a link leads to.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"))
    }
}

/// An error here means that the bytes may not be on the disk: nothing may be published.
fn sync_files(directory: &Path) -> io::Result<()> {
    for file in fs::read_dir(directory)? {
        let file = File::open(file?.path())?;
        change(|| file.sync_all())?;
    }
    Ok(())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = File::open(path)?;
    change(|| directory.sync_all())
}
