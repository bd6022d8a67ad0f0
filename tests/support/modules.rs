//! The modules that tests run: small ones written on the spot, real ones from `make modules`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::paths;

/// The bytes of a module that `make modules` brought: `hello`, `markdown`, `python`, `sqlite` or
/// `ruby`.
///
/// # Errors
///
/// When it is not there.
pub fn read(name: &str) -> Result<Vec<u8>> {
    let path = paths::module(name)?;
    fs::read(&path).with_context(|| path.display().to_string())
}

/// The directory to grant to Python as `/usr/local/lib`.
///
/// # Errors
///
/// When it is not there.
pub fn python_library() -> Result<PathBuf> {
    paths::target_modules("python/lib")
}

/// The 135 bytes of `examples/hello/hello.wat`.
///
/// # Errors
///
/// When the file is gone or is no WAT.
pub fn smallest_hello() -> Result<Vec<u8>> {
    let path = paths::example("hello/hello.wat");
    wat::parse_file(&path).with_context(|| path.display().to_string())
}

/// A module from its text form.
///
/// # Errors
///
/// When the text is none.
pub fn from_text(text: &str) -> Result<Vec<u8>> {
    Ok(wat::parse_str(text)?)
}
