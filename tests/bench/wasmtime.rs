//! wasmtime's command line: with modules that were compiled beforehand, with its cache, and without
//! either.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, str};

use anyhow::{Context, Result, ensure};

use crate::rival;
use crate::task::Task;

/// The version that is measured; tests/tools/rivals builds it.
const VERSION: &str = "48.0.8";

/// An installed wasmtime, with a place for what it compiles.
pub(crate) struct Wasmtime {
    program: PathBuf,
    scratch: PathBuf,
}

impl Wasmtime {
    /// Looks for it. Whatever it writes goes below `scratch`.
    pub(crate) fn find(scratch: &Path) -> Result<Option<Self>> {
        let Some(program) = rival::find("wasmtime", VERSION) else { return Ok(None) };
        let scratch = scratch.join("wasmtime");
        fs::create_dir_all(&scratch)?;
        let cache = format!("[cache]\ndirectory = {:?}\n", scratch.join("cache"));
        fs::write(scratch.join("cache.toml"), cache)?;
        Ok(Some(Self { program, scratch }))
    }

    /// What it says of itself.
    pub(crate) fn version(&self) -> Result<String> {
        rival::version(&self.program)
    }

    /// Compiles a task's module, once, and runs it from there.
    pub(crate) fn precompiled(&self, task: &Task) -> Result<Command> {
        let stem = task.wasm.file_stem().context("a module has a name")?;
        let compiled = self.scratch.join(stem).with_extension("cwasm");
        if !compiled.exists() {
            let mut command = self.command();
            command.args(["compile", "-C", "cache=n", "-o"]).arg(&compiled).arg(&task.wasm);
            let output = command.output()?;
            let reason = str::from_utf8(&output.stderr).unwrap_or_default().trim_end();
            ensure!(output.status.success(), "wasmtime compiles no {}: {reason}", task.name);
        }
        let mut command = self.command();
        command.args(["run", "--allow-precompiled"]);
        Ok(finish(command, task, &compiled))
    }

    /// Runs the Wasm with a cache, which is filled by the first run.
    pub(crate) fn cached(&self, task: &Task) -> Command {
        let mut command = self.command();
        command.args(["run", "-C", "cache=y", "-C"]);
        command.arg(format!("cache-config={}", self.scratch.join("cache.toml").display()));
        finish(command, task, &task.wasm)
    }

    /// Compiles the Wasm and runs it.
    pub(crate) fn uncached(&self, task: &Task) -> Command {
        let mut command = self.command();
        command.args(["run", "-C", "cache=n"]);
        finish(command, task, &task.wasm)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // It looks for a home, and finds one that is gone afterwards.
        command.env_clear().env("HOME", &self.scratch);
        command
    }
}

fn finish(mut command: Command, task: &Task, module: &Path) -> Command {
    for grant in &task.grants {
        command.arg("--dir").arg(format!("{}::{}", grant.host.display(), grant.guest));
    }
    command.arg(module).args(&task.arguments);
    command
}
