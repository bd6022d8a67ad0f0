//! What a step must satisfy beyond being well-formed CBOR: the shim checks it before it asks, the
//! agent again before it believes.

use std::collections::HashSet;

use minicbor::bytes::ByteVec;

use crate::bounded::{MAX_ADDRESSES, MAX_ARGUMENTS, MAX_DIRECTORIES, MAX_PATHS, MAX_VARIABLES};
use crate::message::{DirectoryGrant, PathGrant, Step, Variable};

/// The longest name of a module, in bytes: `PATH_MAX`, as the longest thing it may be is a path.
pub const MAX_MODULE: usize = 4096;

/// A step asks for something that nobody can grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The module has no name.
    #[error("the module's name is empty")]
    ModuleEmpty,
    /// The module's name is too long to be a path or a reference.
    #[error("the module's name is {0} bytes long, more than the {MAX_MODULE} that are allowed")]
    ModuleLength(usize),
    /// The module's name would garble a log.
    #[error("the module's name contains a control character")]
    ModuleControl,
    /// There are too many of something.
    #[error("{count} {what} are more than the {most} that are allowed")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// An argument cannot be a C string.
    #[error("argument {0} contains a NUL byte")]
    ArgumentNul(usize),
    /// A variable's name is empty, or contains `=` or NUL.
    #[error("{0:?} cannot be the name of an environment variable")]
    VariableName(String),
    /// A variable's value cannot be a C string.
    #[error("the value of the environment variable {0} contains a NUL byte")]
    VariableNul(String),
    /// A directory of the pod is not an absolute path.
    #[error("the directory {0:?} is not an absolute path")]
    DirectoryHost(String),
    /// A directory's name for the module is empty or contains NUL.
    #[error("the directory {0:?} has no usable name for the module")]
    DirectoryGuest(String),
    /// Two directories have the same name for the module.
    #[error("two directories are both granted as {0:?}")]
    DirectoryTwice(String),
    /// A single path is not absolute, has no name of its own, or is not in its simplest form.
    #[error(
        "the path {0:?} cannot be granted: it must be absolute, name something below the root, and \
         contain no `.`, `..` or doubled slash"
    )]
    Path(String),
    /// Two single paths have the same name for the module.
    #[error("two paths are both granted as {0:?}")]
    PathTwice(String),
    /// An address is not `HOST:PORT`.
    #[error("{0:?} is not an address of the form HOST:PORT")]
    Address(String),
    /// A limit that nothing satisfies.
    #[error("a {0} of zero lets nothing run")]
    Zero(&'static str),
}

impl Step {
    /// Checks what the types do not say.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong; the message is for the person who wrote the step.
    pub fn check(&self) -> Result<(), StepError> {
        module(&self.module)?;
        arguments(&self.arguments)?;
        environment(&self.environment)?;
        directories(&self.directories)?;
        paths(&self.paths)?;
        at_most("network addresses", self.network.len(), MAX_ADDRESSES)?;
        for text in &self.network {
            address(text).ok_or_else(|| StepError::Address(text.clone()))?;
        }
        match (self.memory, self.usual_memory, self.timeout) {
            (Some(0), ..) | (_, Some(0), _) => Err(StepError::Zero("memory limit")),
            (.., Some(0)) => Err(StepError::Zero("timeout")),
            _ => Ok(()),
        }
    }
}

/// Splits `HOST:PORT`; an IPv6 address stands in brackets, which are not part of the result.
pub fn address(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    // `parse` alone would take a sign.
    let port: u16 = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse().ok())??;
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().ok().map(|_| inner)?,
        None => host,
    };
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let usable = bracketed.is_some() || (!host.is_empty() && host.chars().all(name));
    (usable && port != 0).then_some((host, port))
}

fn module(name: &str) -> Result<(), StepError> {
    match name.len() {
        0 => Err(StepError::ModuleEmpty),
        1..=MAX_MODULE if name.chars().any(char::is_control) => Err(StepError::ModuleControl),
        1..=MAX_MODULE => Ok(()),
        length => Err(StepError::ModuleLength(length)),
    }
}

fn arguments(list: &[ByteVec]) -> Result<(), StepError> {
    at_most("arguments", list.len(), MAX_ARGUMENTS)?;
    match list.iter().position(|argument| argument.contains(&0)) {
        Some(index) => Err(StepError::ArgumentNul(index + 1)),
        None => Ok(()),
    }
}

fn environment(list: &[Variable]) -> Result<(), StepError> {
    at_most("environment variables", list.len(), MAX_VARIABLES)?;
    for Variable { name, value } in list {
        if name.is_empty() || name.iter().any(|b| matches!(b, 0 | b'=')) {
            return Err(StepError::VariableName(lossy(name)));
        }
        if value.contains(&0) {
            return Err(StepError::VariableNul(lossy(name)));
        }
    }
    Ok(())
}

fn directories(list: &[DirectoryGrant]) -> Result<(), StepError> {
    at_most("directories", list.len(), MAX_DIRECTORIES)?;
    let mut guests: HashSet<&[u8]> = HashSet::with_capacity(list.len());
    for DirectoryGrant { host, guest, .. } in list {
        if !host.starts_with(b"/") || host.contains(&0) {
            return Err(StepError::DirectoryHost(lossy(host)));
        }
        if guest.is_empty() || guest.contains(&0) {
            return Err(StepError::DirectoryGuest(lossy(guest)));
        }
        if !guests.insert(guest) {
            return Err(StepError::DirectoryTwice(lossy(guest)));
        }
    }
    Ok(())
}

fn paths(list: &[PathGrant]) -> Result<(), StepError> {
    at_most("paths", list.len(), MAX_PATHS)?;
    let mut guests: HashSet<&[u8]> = HashSet::with_capacity(list.len());
    for PathGrant { host, guest, .. } in list {
        for path in [host, guest] {
            if !is_simple(path) {
                return Err(StepError::Path(lossy(path)));
            }
        }
        if !guests.insert(guest) {
            return Err(StepError::PathTwice(lossy(guest)));
        }
    }
    Ok(())
}

/// Whether a path is absolute and names something, each of its names once and for itself.
fn is_simple(path: &[u8]) -> bool {
    let Some(below) = path.strip_prefix(b"/") else { return false };
    let mut names = below.split(|byte| *byte == b'/');
    names.all(|name| !matches!(name, b"" | b"." | b"..") && !name.contains(&0))
}

fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), StepError> {
    if count > most { Err(StepError::TooMany { what, count, most }) } else { Ok(()) }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
