//! A real cluster, as tests use it: its fixed names, and a handle on the one that runs.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::program::Program;
use crate::{interrupt, paths};

/// The directory of the cluster. Its name is short: sockets lie below it.
pub const STATE: &str = "/var/tmp/warmstep-cluster";

/// The node's address, from the machine, from the node and from pods.
pub const NODE: &str = "10.199.199.2";

/// The node's name.
pub const NODE_NAME: &str = "node";

/// The addresses of pods.
pub const PODS: &str = "10.199.200.0/24";

/// The registry's name in references, and where it listens.
pub const REGISTRY: &str = "registry.warmstep.test";
/// The address behind [`REGISTRY`]: its port is HTTP's own.
pub const REGISTRY_ADDRESS: &str = "10.199.199.2:80";

/// The S3 server and its one bucket, for everybody.
pub const S3: &str = "10.199.199.2:7070";
/// The bucket of artifacts.
pub const BUCKET: &str = "artifacts";
/// Who may read and write it.
pub const S3_KEY: &str = "warmstep";
/// With which secret.
pub const S3_SECRET: &str = "warmstep-secret";

/// The image that holds a pod's namespaces.
pub const PAUSE: &str = "warmstep.test/pause:cluster";

/// The file in [`STATE`] that says that the cluster is ready.
pub const READY: &str = "ready";

/// How long it may take to come up, its parts built.
const START: Duration = Duration::from_secs(600);

/// How long a program of the cluster may take to start or stop.
const CONTROL: Duration = Duration::from_secs(120);

/// How long it may take to end and to clean up.
const STOP: Duration = Duration::from_secs(60);

/// The socket on which programs are started and stopped.
pub fn control() -> PathBuf {
    Path::new(STATE).join("control.sock")
}

/// The file that names the keeper's process id.
pub fn keeper() -> PathBuf {
    Path::new(STATE).join("keeper.pid")
}

/// The administrator's KUBECONFIG.
pub fn kubeconfig() -> PathBuf {
    Path::new(STATE).join("admin.kubeconfig")
}

/// Whether a cluster is ready.
pub fn ready() -> bool {
    Path::new(STATE).join(READY).exists()
}

/// The cluster that runs: its own, gone when dropped, or one that `make cluster` left.
#[derive(Debug)]
pub struct Cluster {
    // The keeper, where it is this process's own, and where its log is.
    own: Option<(Program, TempDir)>,
    kubectl: PathBuf,
}

impl Cluster {
    /// Uses the cluster that is up, or starts one that ends with this value.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start() -> Result<Self> {
        let kubectl = paths::part("kubernetes")?.join("kubectl");
        if ready() {
            return Ok(Self { own: None, kubectl });
        }
        let scratch = TempDir::with_prefix("warmstep-keeper-")?;
        let log = scratch.path().join("log");
        let mut command = Command::new(paths::program("warmstep-cluster")?);
        command.arg("run");
        let mut keeper = Program::start("warmstep-cluster", command, &log)?;
        keeper.until(START, |_| ready().then_some(()))?;
        Ok(Self { own: Some((keeper, scratch)), kubectl })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(kubeconfig()).args(arguments);
        command
    }

    /// What `kubectl` prints.
    ///
    /// # Errors
    ///
    /// When it fails, with what it says.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).stdin(Stdio::null()).output()?;
        said(&format!("kubectl {}", arguments.join(" ")), output)
    }

    /// Hands `text` to `kubectl`, such as `create -f -`.
    ///
    /// # Errors
    ///
    /// As [`Cluster::kubectl`].
    pub fn kubectl_with(&self, arguments: &[&str], text: &str) -> Result<String> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut input = child.stdin.take().context("kubectl has no input")?;
        input.write_all(text.as_bytes())?;
        drop(input);
        said(&format!("kubectl {}", arguments.join(" ")), child.wait_with_output()?)
    }

    /// One object or list.
    ///
    /// # Errors
    ///
    /// As [`Cluster::kubectl`].
    pub fn get(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend_from_slice(arguments);
        Ok(serde_json::from_str(&self.kubectl(&all)?)?)
    }

    /// Starts or stops a program of the cluster: `stop kubelet`.
    ///
    /// # Errors
    ///
    /// When there is none of that name, or it does not start or end.
    pub fn control(&self, request: &str) -> Result<()> {
        let mut stream = UnixStream::connect(control()).context("the cluster's control socket")?;
        stream.set_read_timeout(Some(CONTROL))?;
        writeln!(stream, "{request}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.trim() != "ok" {
            bail!("{request}: {}", answer.trim());
        }
        Ok(())
    }

    /// Asks `ready` again and again until it has an answer.
    ///
    /// # Errors
    ///
    /// When the time is over, or asking fails.
    pub fn until<T>(
        &self,
        what: &str,
        most: Duration,
        mut ready: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + most;
        loop {
            interrupt::check()?;
            let asked = ready(self);
            if let Ok(Some(answer)) = asked {
                return Ok(answer);
            }
            if Instant::now() > deadline {
                asked?;
                bail!("{what}: not within {most:?}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Pods, events and logs of a namespace, for a failed test.
    pub fn report(&self, namespace: &str) -> String {
        let mut text = String::new();
        for arguments in [
            &["get", "pods", "-o", "wide"][..],
            &["get", "workflows.argoproj.io"],
            &["get", "events", "--sort-by=.lastTimestamp"],
        ] {
            let arguments = [arguments, &["-n", namespace]].concat();
            let said = self.kubectl(&arguments).unwrap_or_else(|error| error.to_string());
            // Writing to a String cannot fail.
            let _ = writeln!(text, "$ kubectl {}\n{said}", arguments.join(" "));
        }
        let names = self.kubectl(&["get", "pods", "-n", namespace, "-o", "name"]);
        for pod in names.unwrap_or_default().lines() {
            let arguments = ["logs", "-n", namespace, pod, "--all-containers", "--tail=40"];
            let said = self.kubectl(&arguments).unwrap_or_else(|error| error.to_string());
            let _ = writeln!(text, "$ kubectl {}\n{said}", arguments.join(" "));
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some((keeper, _)) = &mut self.own {
            // It removes cgroups, which takes as long as their processes take to end.
            let _ = keeper.signal(Signal::TERM);
            let _ = keeper.wait(STOP);
        }
    }
}

fn said(what: &str, output: Output) -> Result<String> {
    if !output.status.success() {
        bail!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
