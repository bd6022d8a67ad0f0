//! The stand: an agent and the rivals, each ready to run any task.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;
use warmstep_tests::push::sha256;
use warmstep_tests::{Agent, interrupt, paths};

use crate::containers::Containers;
use crate::rounds::Subject;
use crate::task::Task;
use crate::wasmer::Wasmer;
use crate::wasmtime::Wasmtime;

/// How long the optimized form of a module may take: Ruby's on a busy machine.
const OPTIMIZE: Duration = Duration::from_secs(300);

/// A way to run a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// Shim, agent and runner.
    Warmstep,
    /// `wasmtime run --allow-precompiled` of what `wasmtime compile` made.
    WasmtimePrecompiled,
    /// `wasmtime run -C cache=y`.
    WasmtimeCached,
    /// `wasmtime run -C cache=n`.
    WasmtimeUncached,
    /// `wasmer run`.
    WasmerCached,
    /// `wasmer run --disable-cache`.
    WasmerUncached,
    /// `ctr run` of the no-op program.
    Container,
    /// The no-op program.
    Noop,
}

impl Runtime {
    /// The name for people.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Warmstep => "warmstep",
            Self::WasmtimePrecompiled => "wasmtime, precompiled",
            Self::WasmtimeCached => "wasmtime, its cache",
            Self::WasmtimeUncached => "wasmtime",
            Self::WasmerCached => "wasmer, its cache",
            Self::WasmerUncached => "wasmer",
            Self::Container => "container",
            Self::Noop => "no-op",
        }
    }
}

/// Everything that is measured, and a directory that goes with it.
pub(crate) struct Stand {
    pub(crate) agent: Agent,
    pub(crate) wasmtime: Option<Wasmtime>,
    pub(crate) wasmer: Option<Wasmer>,
    pub(crate) containers: Option<Containers>,
    noop: PathBuf,
    scratch: TempDir,
}

impl Stand {
    /// Starts what must run, and finds what is there.
    pub(crate) fn start() -> Result<Self> {
        let scratch = TempDir::with_prefix("warmstep-bench-")?;
        let noop = paths::root().join("target/demo/noop");
        ensure!(noop.is_file(), "{} is missing: run make bench", noop.display());
        let stand = Self {
            agent: Agent::builder().start()?,
            wasmtime: Wasmtime::find(scratch.path())?,
            wasmer: Wasmer::find(scratch.path())?,
            containers: Containers::start(&noop)?,
            noop,
            scratch,
        };
        for (there, what) in [
            (stand.wasmtime.is_some(), "wasmtime: tests/tools/rivals builds it"),
            (stand.wasmer.is_some(), "wasmer: tests/tools/rivals builds it"),
            (stand.containers.is_some(), "containers: they want root, containerd, ctr and runc"),
        ] {
            if !there {
                eprintln!("bench: without {what}");
            }
        }
        Ok(stand)
    }

    /// Where tasks put their files.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The versions of everything, a line each.
    pub(crate) fn versions(&self) -> Result<Vec<String>> {
        let mut versions = vec![format!("warmstep {}", env!("CARGO_PKG_VERSION"))];
        versions.extend(self.wasmtime.as_ref().map(Wasmtime::version).transpose()?);
        versions.extend(self.wasmer.as_ref().map(Wasmer::version).transpose()?);
        versions.extend(self.containers.as_ref().map(|containers| containers.version().to_owned()));
        Ok(versions)
    }

    /// A step: of a module that the agent has, or of a file.
    fn step(&self, task: &Task, module: &str) -> Result<Command> {
        let mut step = self.agent.step(module).arguments(&task.arguments);
        for grant in &task.grants {
            step = if grant.writable {
                step.directory(&grant.host, grant.guest)
            } else {
                step.readable(&grant.host, grant.guest)
            };
        }
        step.command()
    }

    /// A step of a module that the agent has compiled with effort.
    pub(crate) fn hot_step(&self, task: &Task) -> Result<Command> {
        self.check(task, &mut self.step(task, &path(task))?)?;
        self.until_optimized()?;
        self.known_step(task)
    }

    /// A step of a module that the agent has, by its digest.
    pub(crate) fn known_step(&self, task: &Task) -> Result<Command> {
        self.step(task, &digest(task)?)
    }

    /// Waits until the agent compiles nothing any more.
    pub(crate) fn until_optimized(&self) -> Result<()> {
        self.agent.until(OPTIMIZE, |status| {
            status.modules.iter().all(|(tier, count)| tier == "optimized" || *count == 0)
        })?;
        Ok(())
    }

    /// Makes the agent forget a module.
    pub(crate) fn forget(&self, task: &Task) -> Result<()> {
        let output = self.agent.ask(["rm", &digest(task)?])?;
        let reason = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "rm of {}: {}", task.name, reason.trim_end());
        Ok(())
    }

    /// The ways to run a module that was run before. Each has run the task once, and has printed
    /// what it must; what cannot is left out, and said.
    pub(crate) fn hot(&self, task: &Task) -> Result<Vec<Subject>> {
        let mut found = vec![(Runtime::Warmstep, self.hot_step(task)?)];
        if let Some(wasmtime) = &self.wasmtime {
            found.push((Runtime::WasmtimePrecompiled, wasmtime.precompiled(task)?));
            found.push((Runtime::WasmtimeCached, wasmtime.cached(task)));
        }
        if let Some(wasmer) = &self.wasmer {
            found.push((Runtime::WasmerCached, wasmer.cached(task)));
        }
        self.able(task, found)
    }

    /// The ways to run a module for the first time; see [`Stand::hot`].
    pub(crate) fn cold(&self, task: &Task) -> Result<Vec<Subject>> {
        let mut found = vec![(Runtime::Warmstep, self.step(task, &path(task))?)];
        if let Some(wasmtime) = &self.wasmtime {
            found.push((Runtime::WasmtimeUncached, wasmtime.uncached(task)));
        }
        if let Some(wasmer) = &self.wasmer {
            found.push((Runtime::WasmerUncached, wasmer.uncached(task)));
        }
        self.able(task, found)
    }

    /// What a start costs without any module.
    pub(crate) fn floors(&self) -> Vec<Subject> {
        let mut floors = vec![Subject::new(Runtime::Noop, self.noop())];
        if let Some(containers) = &self.containers {
            floors.push(Subject::new(Runtime::Container, containers.command()));
        }
        floors
    }

    /// The no-op program.
    pub(crate) fn noop(&self) -> Command {
        let mut command = Command::new(&self.noop);
        command.env_clear();
        command
    }

    fn able(&self, task: &Task, found: Vec<(Runtime, Command)>) -> Result<Vec<Subject>> {
        let mut able = Vec::new();
        let mut first: Option<String> = task.output.clone();
        for (runtime, mut command) in found {
            match self.check(task, &mut command) {
                Ok(output) if first.as_ref().is_none_or(|first| *first == output) => {
                    first = Some(output);
                    able.push(Subject::new(runtime, command));
                }
                Err(error) if runtime == Runtime::Warmstep => return Err(error),
                Ok(output) => {
                    eprintln!("bench: {} says {output:?} to {}", runtime.label(), task.name);
                }
                Err(error) => eprintln!("bench: {}: {error:#}", runtime.label()),
            }
        }
        Ok(able)
    }

    /// Runs a command once, and returns what it printed if that may be.
    fn check(&self, task: &Task, command: &mut Command) -> Result<String> {
        interrupt::check()?;
        let output = command.stdin(Stdio::null()).output()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let expected = task.output.as_ref().is_none_or(|expected| *expected == printed);
        if !output.status.success() || !expected {
            let reason = String::from_utf8_lossy(&output.stderr);
            bail!("{} ended with {}: {printed}{}", task.name, output.status, reason.trim_end());
        }
        Ok(printed)
    }
}

fn path(task: &Task) -> String {
    task.wasm.display().to_string()
}

fn digest(task: &Task) -> Result<String> {
    Ok(sha256(&fs::read(&task.wasm)?))
}
