//! Runs the compiler: a process of its own for every compilation, ended at its limits.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use warmstep_wire::message::Phase;

use crate::cache::Tier;
use crate::config::Limits;
use crate::flight::Watcher;
use crate::host::Host;
use crate::layers::{Layers, Process};

/// The most that is read of what one compiler reports, in bytes: a hundred lines of progress, the
/// module's imports, a reason.
const MAX_REPORT: u64 = 4 * 1024 * 1024;

/// How long the compiler may take to say what it is.
const IDENTIFY_DEADLINE: Duration = Duration::from_secs(10);

/// How nice a compilation is that no step waits for.
const BACKGROUND_NICE: i32 = 19;

/// A module was not compiled.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CompileError {
    /// It cannot be: it will fail the same way again.
    #[error("{0}")]
    Module(String),
    /// The compiler itself failed.
    #[error("the compiler failed: {0}")]
    Failed(String),
}

fn io_failed(error: std::io::Error) -> CompileError {
    CompileError::Failed(error.to_string())
}

/// What the compiler says on its stderr, one JSON object a line.
#[derive(Debug, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
enum Report {
    Module {
        #[serde(default)]
        imports: Vec<String>,
    },
    Progress {
        done: u64,
        total: u64,
    },
    Failed {
        reason: String,
    },
    Broken {
        reason: String,
    },
    Jail {
        missing: String,
    },
    /// What a newer compiler says besides.
    #[serde(other)]
    Other,
}

/// The compiler's binary.
pub(crate) struct Compiler {
    binary: PathBuf,
    layers: Arc<Layers>,
}

impl Compiler {
    /// A compiler that has not been asked anything yet.
    pub(crate) fn new(binary: &Path, layers: Arc<Layers>) -> Self {
        Self { binary: binary.to_owned(), layers }
    }

    /// What decides about the code that the compiler makes: a part of every key.
    pub(crate) async fn identity(&self) -> Result<String, CompileError> {
        let output = self.command().arg("--identify").stdin(Stdio::null()).output();
        let output = tokio::time::timeout(IDENTIFY_DEADLINE, output)
            .await
            .map_err(|_| CompileError::Failed("it does not say what it is".to_owned()))?
            .map_err(|error| {
                CompileError::Failed(format!("cannot run {}: {error}", self.binary.display()))
            })?;
        let identity = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() && !identity.is_empty() && !identity.contains('\n') {
            Ok(identity)
        } else {
            Err(CompileError::Failed(format!(
                "{} --identify ended with {}",
                self.binary.display(),
                output.status
            )))
        }
    }

    /// Compiles `wasm` into the empty directory `out`, and says what it is to run on.
    pub(crate) async fn compile(
        &self,
        wasm: std::fs::File,
        tier: Tier,
        out: &Path,
        background: bool,
        limits: &Limits,
        watcher: &Watcher,
    ) -> Result<Host, CompileError> {
        watcher.tell(Phase::Compile, 0, 0);
        let (memory, time) = (limits.compile_memory.as_u64(), limits.compile_time);
        let mut child = self
            .command()
            .args(["--tier", tier.name(), "--out"])
            .arg(out)
            .args(["--module-bytes", &limits.module_bytes.as_u64().to_string()])
            .args(["--memory", &memory.to_string()])
            // Threads add their time up: the wall clock is the stricter limit on a busy node.
            .args(["--cpu", &time.as_secs().saturating_mul(processors()).to_string()])
            .stdin(Stdio::from(wasm))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(io_failed)?;
        if background {
            lower(&child);
        }
        let stderr = child.stderr.take();
        let work = async {
            let heard = match stderr {
                Some(stderr) => listen(stderr, watcher, &self.layers).await?,
                None => Heard::default(),
            };
            let status = child.wait().await.map_err(io_failed)?;
            Ok((heard, status))
        };
        // Dropping the child kills it, so a deadline or an error leaves nothing behind.
        let (heard, status) = tokio::time::timeout(time, work).await.map_err(|_| {
            CompileError::Module(format!(
                "compiling it takes longer than {} (limits.compile_time)",
                humantime::format_duration(time)
            ))
        })??;
        match (status.success(), heard.verdict) {
            (true, _) => Ok(heard.host),
            (false, Some(error)) => Err(error),
            (false, None) => Err(ended(status, memory)),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear().current_dir("/").kill_on_drop(true);
        command
    }
}

/// A compiler that ends without a word was ended: by a limit, or by its own fault.
fn ended(status: ExitStatus, memory: u64) -> CompileError {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(signal) if signal == Signal::SYS.as_raw() => CompileError::Failed(
            "its jail stopped it at a call that compilers do not make: report this module"
                .to_owned(),
        ),
        Some(signal) => CompileError::Module(format!(
            "compiling it was ended by signal {signal}: it takes more than {memory} bytes of \
             memory (limits.compile_memory), too much time, or breaks the compiler"
        )),
        None => CompileError::Failed(format!("it ended with {status} and said nothing")),
    }
}

fn processors() -> u64 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u64)
}

/// Lets everything else on the node go first.
fn lower(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = rustix::process::setpriority_process(Some(pid), BACKGROUND_NICE)
    {
        tracing::debug!(%error, "a background compilation keeps its priority");
    }
}

/// What the reports said.
#[derive(Debug, Default)]
struct Heard {
    /// What the module is to run on.
    host: Host,
    /// The last word on what is wrong.
    verdict: Option<CompileError>,
}

/// Follows the reports to their end.
async fn listen(
    stderr: ChildStderr,
    watcher: &Watcher,
    layers: &Layers,
) -> Result<Heard, CompileError> {
    let mut lines = BufReader::new(stderr.take(MAX_REPORT)).lines();
    let mut heard = Heard::default();
    while let Some(line) = lines.next_line().await.map_err(io_failed)? {
        match serde_json::from_str(&line) {
            Ok(Report::Progress { done, total }) => watcher.tell(Phase::Compile, done, total),
            // A module that no runner can run is refused before anything is compiled.
            Ok(Report::Module { imports }) => {
                heard.host = Host::of(&imports).map_err(CompileError::Module)?;
            }
            Ok(Report::Failed { reason }) => heard.verdict = Some(CompileError::Module(reason)),
            Ok(Report::Broken { reason }) => heard.verdict = Some(CompileError::Failed(reason)),
            Ok(Report::Jail { missing }) => layers.note(Process::Compiler, &missing),
            Ok(Report::Other) => {}
            Err(_) => tracing::debug!(line = %line.escape_debug(), "the compiler says"),
        }
    }
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_and_new_ones_are_passed_over() {
        let read = |line: &str| serde_json::from_str::<Report>(line).unwrap();
        assert!(matches!(
            read(r#"{"report":"progress","done":1,"total":2}"#),
            Report::Progress { done: 1, total: 2 }
        ));
        assert!(matches!(read(r#"{"report":"module","functions":3}"#), Report::Module { .. }));
        assert!(matches!(read(r#"{"report":"news","of":"tomorrow"}"#), Report::Other));
    }
}
