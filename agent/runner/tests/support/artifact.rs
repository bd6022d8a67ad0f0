//! Compiles modules with the real compiler; what was compiled once is kept for the next run.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

/// A compiled module.
pub(crate) struct Artifact {
    pub(crate) module: OwnedFd,
    pub(crate) image: Option<OwnedFd>,
}

/// Compiles a module as the agent does for its best tier.
pub(crate) fn compile(wasm: &[u8]) -> Artifact {
    let directory = directory(wasm);
    if !directory.exists() {
        let partial = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        into(wasm, partial.path());
        // Another test may have been faster with the same module.
        let _ = std::fs::rename(partial.keep(), &directory);
    }
    let module = File::open(directory.join("module")).expect("the compiler made it").into();
    let image = File::open(directory.join("image")).ok().map(OwnedFd::from);
    Artifact { module, image }
}

/// Where a module's artifact is kept: it depends on the Wasm and on the compiler.
fn directory(wasm: &[u8]) -> PathBuf {
    use sha2::{Digest, Sha256};
    let compiler = std::fs::metadata(compiler()).expect("the compiler is there");
    let built = compiler.modified().expect("a time").duration_since(SystemTime::UNIX_EPOCH);
    let built = built.expect("after 1970").as_nanos();
    let key = Sha256::new().chain_update(built.to_le_bytes()).chain_update(wasm).finalize();
    let key: String = key.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("artifact-{key}"))
}

fn into(wasm: &[u8], directory: &Path) {
    let mut child = Command::new(compiler())
        .args(["--tier", "optimized", "--out"])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the compiler starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(wasm).expect("the compiler reads all of the module");
    drop(stdin);
    let output = child.wait_with_output().expect("it can be waited for");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The compiler beside the runner; it is built where it is missing.
fn compiler() -> &'static Path {
    static COMPILER: OnceLock<PathBuf> = OnceLock::new();
    COMPILER.get_or_init(|| {
        let compiler = Path::new(super::RUNNER).with_file_name("warmstep-compile");
        if !compiler.exists() {
            let status = Command::new(env!("CARGO"))
                .args(["build", "--release", "--package", "warmstep-compiler"])
                .status();
            assert!(status.is_ok_and(|status| status.success()), "the compiler cannot be built");
        }
        compiler
    })
}
