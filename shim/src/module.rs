//! What to run: a reference into a registry, a digest, or a file, which is opened here because only
//! this pod may have it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use warmstep_wire::exit;

/// The module of a step.
#[derive(Debug)]
pub(crate) struct Module {
    /// As the author wrote it; bytes that are not UTF-8 are replaced, it is for messages.
    pub(crate) name: String,
    /// The module itself, when it is a file.
    pub(crate) file: Option<File>,
}

/// Why there is no such module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    /// There is nothing to look for, as when a template's parameter is empty.
    #[error("the module's name is empty")]
    Empty,
    /// The reference has no name, or characters no reference has.
    #[error("{0} is not a module in a registry: write oci://REGISTRY/NAME, then :TAG or @sha256:…")]
    Reference(String),
    /// The digest is not one.
    #[error("{0} is not a digest: write sha256: and 64 lowercase hexadecimal digits")]
    Digest(String),
    /// Nothing is there.
    #[error("there is no file {path}{hint}")]
    NotFound {
        /// The path as it was written.
        path: String,
        /// What else may have been meant.
        hint: String,
    },
    /// The file cannot be opened.
    #[error("cannot open the module {path}: {error}")]
    Open {
        /// The path as it was written.
        path: String,
        /// Why.
        error: Errno,
    },
    /// Something else than a file is there.
    #[error("the module {path} is {found}, not a regular file")]
    NotAFile {
        /// The path as it was written.
        path: String,
        /// What it is.
        found: &'static str,
    },
}

impl ModuleError {
    /// The exit code that says so.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => exit::NOT_FOUND,
            _ => exit::REFUSED,
        }
    }
}

/// Finds out what the author means, and opens it when it is a file.
///
/// # Errors
///
/// When it is neither a reference nor a digest nor a readable regular file.
pub(crate) fn find(written: &OsStr) -> Result<Module, ModuleError> {
    let name = written.to_string_lossy().into_owned();
    if name.is_empty() {
        return Err(ModuleError::Empty);
    }
    if let Some(rest) = name.strip_prefix("oci://") {
        // The agent parses it; this only keeps a typing error from costing a wait.
        let visible = |c: char| c.is_ascii_graphic();
        return match rest.contains('/') && rest.chars().all(visible) {
            true => Ok(Module { name, file: None }),
            false => Err(ModuleError::Reference(name)),
        };
    }
    if let Some(digits) = name.strip_prefix("sha256:") {
        let hexadecimal = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        return match digits.len() == 64 && digits.bytes().all(hexadecimal) {
            true => Ok(Module { name, file: None }),
            false => Err(ModuleError::Digest(name)),
        };
    }
    let file = open(written, &name)?;
    Ok(Module { name, file: Some(file) })
}

fn open(written: &OsStr, name: &str) -> Result<File, ModuleError> {
    let path = || name.to_owned();
    // Not blocking, so that a FIFO nobody writes to cannot hold the step here.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = match rustix::fs::open(written.as_bytes(), flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => {
            return Err(ModuleError::NotFound { path: path(), hint: hint(name) });
        }
        Err(error) => return Err(ModuleError::Open { path: path(), error }),
    };
    let status =
        rustix::fs::fstat(&opened).map_err(|error| ModuleError::Open { path: path(), error })?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => Ok(File::from(opened)),
        other => Err(ModuleError::NotAFile { path: path(), found: kind(other) }),
    }
}

fn kind(found: FileType) -> &'static str {
    match found {
        FileType::Directory => "a directory",
        FileType::Fifo => "a named pipe",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Socket => "a socket",
        _ => "something else",
    }
}

/// What someone may have meant who wrote a path to nothing.
fn hint(name: &str) -> String {
    if let Some((_, rest)) = name.split_once("://") {
        return match name.starts_with("docker://") || name.starts_with("docker-image://") {
            true => format!(": for a module in a registry write oci://{rest}"),
            false => ", and only oci:// names a module that is elsewhere".to_owned(),
        };
    }
    match looks_like_a_reference(name) {
        true => format!(": for a module in a registry write oci://{name}"),
        false => String::new(),
    }
}

/// Whether a container tool would take it for the name of an image (`ghcr.io/x/y:tag`).
fn looks_like_a_reference(name: &str) -> bool {
    if name.starts_with(['/', '.']) {
        return false;
    }
    match name.split_once('/') {
        Some((host, _)) => host.contains(['.', ':']) || host == "localhost" || tagged(name),
        None => tagged(name),
    }
}

fn tagged(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.contains([':', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str) -> ModuleError {
        find(OsStr::new(name)).expect_err(name)
    }

    #[test]
    fn references_and_digests_are_sent_as_they_are() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        for name in
            ["oci://ghcr.io/x/y", "oci://localhost:5000/x:1", "oci://r/x@sha256:00", &digest]
        {
            let module = find(OsStr::new(name)).expect(name);
            assert_eq!(module.name, name);
            assert!(module.file.is_none());
        }
    }

    #[test]
    fn what_cannot_be_one_is_refused_here() {
        for name in ["oci://", "oci://hello", "oci://r/a b", "oci://r/a\n", "oci://r/\u{e4}"] {
            assert!(matches!(refusal(name), ModuleError::Reference(_)), "{name}");
        }
        let capitals = format!("sha256:{}", "A".repeat(64));
        let long = format!("sha256:{}", "a".repeat(65));
        for name in ["sha256:", "sha256:abc", &capitals, &long] {
            assert!(matches!(refusal(name), ModuleError::Digest(_)), "{name}");
            assert_eq!(refusal(name).code(), exit::REFUSED);
        }
    }

    #[test]
    fn a_missing_file_that_looks_like_a_reference() {
        for name in ["ghcr.io/x/y:tag", "localhost/x", "host:5000/x", "x/y:1", "python:3.11"] {
            let error = refusal(name);
            assert_eq!(error.code(), exit::NOT_FOUND, "{name}");
            assert!(error.to_string().contains(&format!("write oci://{name}")), "{error}");
        }
        for name in ["/ghcr.io/x:1", "./x:1", "hello.wasm", "no/such/file.wasm"] {
            assert!(!refusal(name).to_string().contains("oci://"), "{name}");
        }
        assert!(refusal("docker://a/b").to_string().ends_with("write oci://a/b"));
        assert!(refusal("https://a/b.wasm").to_string().contains("only oci://"));
    }

    #[test]
    fn files() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.wasm");
        std::fs::write(&path, b"\0asm").expect("a file");
        assert!(find(path.as_os_str()).expect("a module").file.is_some());
        // A path through something that is no directory leads nowhere.
        assert_eq!(find(path.join("x").as_os_str()).expect_err("none").code(), exit::NOT_FOUND);
    }

    #[test]
    fn everything_else_that_has_a_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, mode, 0).expect("a pipe");
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        for (path, says) in [
            (folder.path(), "a directory"),
            (&pipe, "a named pipe"),
            (&socket, "cannot open"),
            (std::path::Path::new("/dev/null"), "a device"),
        ] {
            let error = find(path.as_os_str()).expect_err(says);
            assert_eq!(error.code(), exit::REFUSED);
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
