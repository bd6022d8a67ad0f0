//! What the values of flags look like; whether the things they name exist is seen later.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

/// `--dir` as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    /// The path here, absolute or not.
    pub(crate) host: OsString,
    /// The module's name for it.
    pub(crate) guest: OsString,
    /// Whether every change is refused.
    pub(crate) read_only: bool,
}

/// `--env` as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// The name, without `=`.
    pub(crate) name: OsString,
    /// The value, unless the one that is set here is meant.
    pub(crate) value: Option<OsString>,
}

/// Why a flag's value cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FlagError {
    /// A directory flag has an empty part.
    #[error(
        "a directory is written HOST, HOST:GUEST, HOST:ro or HOST:GUEST:ro, without empty parts"
    )]
    DirectoryEmpty,
    /// A directory flag has more colons than a directory flag has.
    #[error("a path with a colon cannot be granted: change into that directory and grant \".\"")]
    DirectoryColon,
    /// A variable has no name.
    #[error("an environment variable is written NAME or NAME=VALUE")]
    VariableName,
    /// An address is something else.
    #[error("an address is written HOST:PORT, an IPv6 address [HOST]:PORT")]
    Address,
    /// A duration is something else.
    #[error("{0}: write a time such as 30s, 500ms or 1h30m")]
    Duration(String),
    /// A timeout that lets nothing run.
    #[error("it must be at least a millisecond")]
    TimeoutZero,
}

/// Reads `HOST[:GUEST][:ro]`.
///
/// # Errors
///
/// When a part is empty, or a path contains a colon.
pub(crate) fn directory(text: OsString) -> Result<Directory, FlagError> {
    let mut parts: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == b':').collect();
    let access = match parts[..] {
        [_, .., b"ro"] => Some(true),
        // Docker's word for what is the default here too.
        [_, .., b"rw"] => Some(false),
        _ => None,
    };
    if access.is_some() {
        parts.pop();
    }
    let (host, guest) = match parts[..] {
        [host] => (host, host),
        [host, guest] => (host, guest),
        _ => return Err(FlagError::DirectoryColon),
    };
    if host.is_empty() || guest.is_empty() {
        return Err(FlagError::DirectoryEmpty);
    }
    Ok(Directory {
        host: OsStr::from_bytes(host).to_owned(),
        guest: OsStr::from_bytes(guest).to_owned(),
        read_only: access == Some(true),
    })
}

/// Reads `NAME[=VALUE]`.
///
/// # Errors
///
/// When there is no name.
pub(crate) fn variable(text: OsString) -> Result<Variable, FlagError> {
    let bytes = text.into_vec();
    let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => (&bytes[..at], Some(OsStr::from_bytes(&bytes[at + 1..]).to_owned())),
        None => (&bytes[..], None),
    };
    if name.is_empty() {
        return Err(FlagError::VariableName);
    }
    Ok(Variable { name: OsStr::from_bytes(name).to_owned(), value })
}

/// Reads `HOST:PORT`.
///
/// # Errors
///
/// When it is something else.
pub(crate) fn address(text: &str) -> Result<String, FlagError> {
    warmstep_wire::check::address(text).ok_or(FlagError::Address)?;
    Ok(text.to_owned())
}

/// Reads a time with its unit, or `0`.
///
/// # Errors
///
/// When it is something else.
pub(crate) fn duration(text: &str) -> Result<Duration, FlagError> {
    humantime::parse_duration(text).map_err(|error| FlagError::Duration(error.to_string()))
}

/// Reads a time that is not zero in the protocol's milliseconds.
///
/// # Errors
///
/// When it is something else, or shorter.
pub(crate) fn timeout(text: &str) -> Result<Duration, FlagError> {
    let timeout = duration(text)?;
    if timeout < Duration::from_millis(1) { Err(FlagError::TimeoutZero) } else { Ok(timeout) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(host: &str, guest: &str, read_only: bool) -> Result<Directory, FlagError> {
        Ok(Directory { host: host.into(), guest: guest.into(), read_only })
    }

    #[test]
    fn directories() {
        assert_eq!(directory("/data".into()), granted("/data", "/data", false));
        assert_eq!(directory("data".into()), granted("data", "data", false));
        assert_eq!(directory(".:/job".into()), granted(".", "/job", false));
        assert_eq!(directory("/data:ro".into()), granted("/data", "/data", true));
        assert_eq!(directory("/data:rw".into()), granted("/data", "/data", false));
        assert_eq!(directory("/a:/b:ro".into()), granted("/a", "/b", true));
        assert_eq!(directory("/a:ro:ro".into()), granted("/a", "ro", true));
        assert_eq!(directory("ro".into()), granted("ro", "ro", false));
    }

    #[test]
    fn directories_of_any_bytes() {
        let found = directory(OsString::from_vec(b"/\xff:/\xfe:ro".to_vec()));
        let found = found.expect("a directory of bytes");
        assert_eq!(found.host.as_bytes(), b"/\xff");
        assert_eq!(found.guest.as_bytes(), b"/\xfe");
    }

    #[test]
    fn directories_that_are_none() {
        for text in ["", ":", ":ro", ":/a", "/a:", "/a::ro", "::ro"] {
            assert_eq!(directory(text.into()), Err(FlagError::DirectoryEmpty), "{text}");
        }
        for text in ["/a:/b:/c", "/a:/b:/c:ro", ":::"] {
            assert_eq!(directory(text.into()), Err(FlagError::DirectoryColon), "{text}");
        }
    }

    #[test]
    fn variables() {
        let set = |name: &str, value: Option<&str>| {
            Ok(Variable { name: name.into(), value: value.map(Into::into) })
        };
        assert_eq!(variable("A".into()), set("A", None));
        assert_eq!(variable("A=".into()), set("A", Some("")));
        assert_eq!(variable("A=b=c".into()), set("A", Some("b=c")));
        assert_eq!(variable("".into()), Err(FlagError::VariableName));
        assert_eq!(variable("=x".into()), Err(FlagError::VariableName));
    }

    #[test]
    fn times() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for text in ["", "60", "-1s", "soon", "1 fortnight"] {
            assert!(matches!(duration(text), Err(FlagError::Duration(_))), "{text}");
        }
        assert_eq!(timeout("1ms"), Ok(Duration::from_millis(1)));
        assert_eq!(timeout("0"), Err(FlagError::TimeoutZero));
        assert_eq!(timeout("1us"), Err(FlagError::TimeoutZero));
    }
}
