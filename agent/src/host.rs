//! Which runner a module needs: what it imports says so. Pure.

use serde::{Deserialize, Serialize};

/// What every runner has.
const PREVIEW1: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// What the runner for WASIX has besides: WASIX itself, and the threads of `wasm32-wasip1-threads`.
const WASIX: [&str; 2] = ["wasix_32v1", "wasi"];

/// The memory that threads share is the only other thing that is imported.
const SHARED_MEMORY: &str = "env.memory";

/// How many unknown imports are named before the rest is counted.
const NAMED_IMPORTS: usize = 5;

/// A kind of host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Host {
    /// WASI preview 1, by `warmstep-run`.
    #[default]
    Preview1,
    /// WASIX, by `warmstep-run-wasix`.
    Wasix,
}

impl Host {
    /// The host of a module that imports this, each `module.name`; or why it has none.
    pub(crate) fn of(imports: &[String]) -> Result<Self, String> {
        let is_of = |import: &str, modules: &[&str]| {
            modules
                .iter()
                .any(|known| import.strip_prefix(known).is_some_and(|rest| rest.starts_with('.')))
        };
        let wasix = imports.iter().any(|import| is_of(import, &WASIX));
        let known = |import: &str| {
            is_of(import, &PREVIEW1)
                || (wasix && (is_of(import, &WASIX) || import == SHARED_MEMORY))
        };
        let unknown: Vec<&String> = imports.iter().filter(|import| !known(import)).collect();
        if unknown.is_empty() {
            return Ok(if wasix { Self::Wasix } else { Self::Preview1 });
        }
        let mut names: Vec<String> = unknown
            .iter()
            .take(NAMED_IMPORTS)
            .map(|name| name.escape_debug().to_string())
            .collect();
        if unknown.len() > NAMED_IMPORTS {
            names.push(format!("and {} more", unknown.len() - NAMED_IMPORTS));
        }
        Err(format!(
            "it imports what no step has: {}; build it for wasm32-wasip1 (wasi_snapshot_preview1) \
             or for WASIX (wasix_32v1)",
            names.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(names: &[&str]) -> Result<Host, String> {
        Host::of(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_imports_choose_the_host() {
        let old = ["wasi_snapshot_preview1.fd_write", "wasi_unstable.fd_read"];
        assert_eq!(host(&old), Ok(Host::Preview1));
        assert_eq!(host(&[]), Ok(Host::Preview1));
        let new = ["wasi_snapshot_preview1.fd_write", "wasix_32v1.sock_open", "env.memory"];
        assert_eq!(host(&new), Ok(Host::Wasix));
        assert_eq!(host(&["wasi.thread-spawn", "env.memory"]), Ok(Host::Wasix));
    }

    #[test]
    fn unknown_imports_are_named() {
        let mixed = ["wasi_unstable.fd_read", "env.a", "wasi_snapshot_preview12.x"];
        let error = host(&mixed).unwrap_err();
        assert!(error.contains("env.a, wasi_snapshot_preview12.x;"), "{error}");
        let many: Vec<String> = (0..9).map(|number| format!("env.f{number}")).collect();
        assert!(Host::of(&many).unwrap_err().contains("env.f4, and 4 more;"));
        assert!(host(&["env.memory"]).is_err(), "a memory is no reason for threads");
        assert!(host(&["wasix_64v1.sock_open"]).is_err());
        assert!(host(&["wasix_32v1.fd_dup", "env.memory2"]).is_err());
    }
}
