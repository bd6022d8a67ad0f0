//! Where the programs are that Warmstep is measured beside.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// A program that tests/tools/rivals built.
pub(crate) fn find(name: &str, version: &str) -> Option<PathBuf> {
    let home = || Some(Path::new(&env::var_os("HOME")?).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    let program = cache.join(format!("warmstep/{name}-{version}/bin/{name}"));
    program.is_file().then_some(program)
}

/// A program of the system, where `PATH` leads.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|program| program.is_file())
}

/// The first line of `PROGRAM --version`.
pub(crate) fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| program.display().to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
