//! wasmer's command line: with its cache and without.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::rival;
use crate::task::Task;

/// The version that is measured, the one that Warmstep is built on; tests/tools/rivals builds it.
const VERSION: &str = "7.4.2";

/// An installed wasmer, with a place for what it compiles.
pub(crate) struct Wasmer {
    program: PathBuf,
    scratch: PathBuf,
}

impl Wasmer {
    /// Looks for it. Whatever it writes goes below `scratch`.
    pub(crate) fn find(scratch: &Path) -> Result<Option<Self>> {
        let Some(program) = rival::find("wasmer", VERSION) else { return Ok(None) };
        let scratch = scratch.join("wasmer");
        fs::create_dir_all(&scratch)?;
        Ok(Some(Self { program, scratch }))
    }

    /// What it says of itself.
    pub(crate) fn version(&self) -> Result<String> {
        rival::version(&self.program)
    }

    /// Runs the Wasm with a cache, which is filled by the first run.
    pub(crate) fn cached(&self, task: &Task) -> Command {
        self.command(task, &[])
    }

    /// Compiles the Wasm and runs it.
    pub(crate) fn uncached(&self, task: &Task) -> Command {
        self.command(task, &["--disable-cache"])
    }

    fn command(&self, task: &Task, flags: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("HOME", &self.scratch).env("WASMER_DIR", &self.scratch);
        command.args(["run", "--cranelift"]).args(flags);
        for grant in &task.grants {
            command.arg("--volume").arg(format!("{}:{}", grant.host.display(), grant.guest));
        }
        command.arg(&task.wasm);
        if !task.arguments.is_empty() {
            command.arg("--").args(&task.arguments);
        }
        command
    }
}
