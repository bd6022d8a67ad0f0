//! Where things are in a checkout: the built programs, the modules, the examples.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The repository's root.
pub fn root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// One of the programs that `make build` makes. They lie beside the program that runs now, which
/// cargo put into the same directory (a test one further down, in `deps`).
///
/// # Errors
///
/// When it has not been built.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("where is the running program?")?;
    let mut directory = own.parent().context("the running program is in no directory")?;
    if directory.ends_with("deps") {
        directory = directory.parent().context("deps is in no directory")?;
    }
    let program = directory.join(name);
    if !program.is_file() {
        bail!("{} is missing: run make build", program.display());
    }
    Ok(program)
}

/// The directory of one of the parts of a cluster; it is built if it is not there yet.
///
/// # Errors
///
/// When it cannot be built.
pub fn part(name: &str) -> Result<PathBuf> {
    let output = std::process::Command::new(root().join("tests/tools/parts"))
        .arg(name)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("tests/tools/parts {name} ended with {}", output.status);
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(PathBuf::from(text.lines().last().context("tests/tools/parts says nothing")?))
}

/// Where Go keeps Argo's module, for its manifests; it is downloaded if it is not there yet.
///
/// # Errors
///
/// When Go is missing, or the module cannot be had.
pub fn argo_module() -> Result<PathBuf> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Downloaded {
        dir: PathBuf,
    }
    let output = std::process::Command::new("go")
        .args(["mod", "download", "-json", "github.com/argoproj/argo-workflows/v4"])
        .current_dir(root().join("tests/cluster/parts/argo"))
        .output()
        .context("go: run tests/tools/setup cluster")?;
    if !output.status.success() {
        bail!("Argo's module: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice::<Downloaded>(&output.stdout)?.dir)
}

/// A module that `make modules` brought.
///
/// # Errors
///
/// When it is not there.
pub fn module(name: &str) -> Result<PathBuf> {
    target_modules(&format!("{name}.wasm"))
}

/// A file or directory of `target/modules`.
pub(crate) fn target_modules(name: &str) -> Result<PathBuf> {
    let path = root().join("target/modules").join(name);
    if !path.exists() {
        bail!("{} is missing: run make modules", path.display());
    }
    Ok(path)
}

/// A file or directory of `examples`.
pub fn example(name: &str) -> PathBuf {
    root().join("examples").join(name)
}
