//! What the module may touch: directories, environment, addresses. Deny by default.
//!
//! The flags are one source of [`Grants`]. Inside Argo the step's own template is another; it fills
//! the same structure, so that everything behind this file knows one kind of grant.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use warmstep_wire::message::{DirectoryGrant, PathGrant, Variable};

use crate::flags;

/// Everything a step asks to be allowed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    /// Directories, by absolute path.
    pub(crate) directories: Vec<DirectoryGrant>,
    /// Environment variables, each name once.
    pub(crate) environment: Vec<Variable>,
    /// Addresses, each `HOST:PORT`.
    pub(crate) network: Vec<String>,
    /// Single files and directories, by absolute path.
    pub(crate) paths: Vec<PathGrant>,
    /// The memory that is meant where none is asked for, in bytes.
    pub(crate) usual_memory: Option<u64>,
}

/// Why something cannot be granted. All of them end a step as refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrantError {
    /// The directory is missing or out of reach.
    #[error("cannot grant the directory {path}: {error}")]
    Directory {
        /// The path as it was written.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// It is something else than a directory.
    #[error("cannot grant {0}: it is not a directory")]
    NotADirectory(String),
    /// The variable is to be handed on, but is not set.
    #[error("the environment variable {0} is not set here: give it a value with --env {0}=VALUE")]
    Unset(String),
}

impl Grants {
    /// Adds what the command line asks for, with `lookup` for variables without a value.
    ///
    /// # Errors
    ///
    /// When a directory is not there, or a variable is not set.
    pub(crate) fn add_flags(
        &mut self,
        directories: &[flags::Directory],
        environment: &[flags::Variable],
        network: &[String],
        lookup: impl Fn(&OsStr) -> Option<OsString>,
    ) -> Result<(), GrantError> {
        self.network.extend_from_slice(network);
        for flag in directories {
            self.directories.push(directory(flag)?);
        }
        for flag in environment {
            let value = match &flag.value {
                Some(value) => value.clone(),
                None => lookup(&flag.name).ok_or_else(|| GrantError::Unset(lossy(&flag.name)))?,
            };
            set(&mut self.environment, flag.name.clone(), value);
        }
        Ok(())
    }
}

fn directory(flag: &flags::Directory) -> Result<DirectoryGrant, GrantError> {
    let failed = |error| GrantError::Directory { path: lossy(&flag.host), error };
    let path = Path::new(&flag.host);
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        return Err(GrantError::NotADirectory(lossy(&flag.host)));
    }
    Ok(DirectoryGrant {
        host: std::path::absolute(path).map_err(failed)?.into_os_string().into_vec().into(),
        guest: flag.guest.clone().into_vec().into(),
        read_only: flag.read_only,
    })
}

/// Sets a variable; said twice, the last one counts, as with every shell.
pub(crate) fn set(environment: &mut Vec<Variable>, name: OsString, value: OsString) {
    let variable = Variable { name: name.into_vec().into(), value: value.into_vec().into() };
    match environment.iter_mut().find(|other| other.name == variable.name) {
        Some(other) => *other = variable,
        None => environment.push(variable),
    }
}

fn lossy(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_flags(
        directories: &[flags::Directory],
        environment: &[flags::Variable],
        lookup: impl Fn(&OsStr) -> Option<OsString>,
    ) -> Result<Grants, GrantError> {
        let mut grants = Grants::default();
        grants.add_flags(directories, environment, &[], lookup)?;
        Ok(grants)
    }

    fn flag(host: &Path) -> flags::Directory {
        flags::Directory { host: host.into(), guest: "g".into(), read_only: true }
    }

    fn variable(name: &str, value: Option<&str>) -> flags::Variable {
        flags::Variable { name: name.into(), value: value.map(Into::into) }
    }

    #[test]
    fn directories_become_absolute() {
        let grants = from_flags(&[flag(Path::new("src"))], &[], |_| None).expect("granted");
        let here = std::env::current_dir().expect("a directory").join("src");
        let host = here.into_os_string().into_vec();
        let guest = b"g".to_vec().into();
        assert_eq!(
            grants.directories,
            [DirectoryGrant { host: host.into(), guest, read_only: true }]
        );
    }

    #[test]
    fn what_is_no_directory() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("a file");
        let error = from_flags(&[flag(&file)], &[], |_| None).expect_err("a file");
        assert!(matches!(error, GrantError::NotADirectory(_)), "{error}");
        let missing = folder.path().join("missing");
        let error = from_flags(&[flag(&missing)], &[], |_| None).expect_err("missing");
        assert!(error.to_string().contains(&*missing.to_string_lossy()), "{error}");
    }

    #[test]
    fn variables_come_from_here_or_from_the_flag() {
        let lookup = |name: &OsStr| (name == "A").then(|| "outer".into());
        let flags = [
            variable("A", None),
            variable("B", Some("1")),
            variable("B", Some("")),
            variable("A", Some("2")),
        ];
        let grants = from_flags(&[], &flags, lookup).expect("granted");
        let pair = |name: &str, value: &str| Variable {
            name: name.as_bytes().to_vec().into(),
            value: value.as_bytes().to_vec().into(),
        };
        assert_eq!(grants.environment, [pair("A", "2"), pair("B", "")]);
        let error = from_flags(&[], &[variable("C", None)], lookup).expect_err("unset");
        assert!(error.to_string().contains("variable C is not set"), "{error}");
    }
}
