//! Starts the cluster's programs in the order in which they need each other, says when all are
//! ready, and starts and stops single ones when it is told to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use warmstep_tests::cluster::{NODE_NAME, READY};
use warmstep_tests::program::Program;
use warmstep_tests::{interrupt, paths};

use crate::files::Files;
use crate::{control, images, kubelet, mounts, network, pki, plane, runtime, stores};

/// How long a program may take to end when it is stopped on purpose: the API server lets watches
/// run out first.
const STOP: Duration = Duration::from_secs(90);

/// How long the node may take to become ready.
const NODE_READY: Duration = Duration::from_secs(120);

/// The programs that run, by name.
pub(crate) struct Node {
    files: Files,
    networks: PathBuf,
    programs: BTreeMap<&'static str, Program>,
}

/// All of them, in the order of their start.
const NAMES: [&str; 8] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "containerd",
    "registry",
    "s3",
    "kubelet",
];

/// Runs until it is killed, with everything else in the namespaces.
pub(crate) fn run() -> Result<()> {
    interrupt::watch()?;
    let files = Files::new();
    mounts::arrange(&files.state)?;
    let networks = files.at("networks");
    network::arrange(&networks)?;
    pki::write(&files)?;
    fs::create_dir_all(files.at("logs"))?;
    let mut node = Node { files, networks, programs: BTreeMap::new() };
    for name in NAMES {
        node.start(name)?;
        if name == "containerd" {
            images::import(&node.files)?;
        }
    }
    node.until_ready()?;
    node.install_argo()?;
    fs::write(node.files.at(READY), "")?;
    control::serve(&mut node)
}

impl Node {
    /// Starts one.
    pub(crate) fn start(&mut self, name: &str) -> Result<()> {
        let Some(name) = NAMES.into_iter().find(|known| *known == name) else {
            bail!("no program is called {name}");
        };
        if self.programs.contains_key(name) {
            bail!("{name} is running already");
        }
        let files = &self.files;
        let program = match name {
            "etcd" => plane::etcd(files)?,
            "kube-apiserver" => {
                let mut program = plane::apiserver(files)?;
                plane::ready(files, &mut program)?;
                program
            }
            "kube-controller-manager" => plane::controller_manager(files)?,
            "kube-scheduler" => plane::scheduler(files)?,
            "containerd" => runtime::start(files, &self.networks)?,
            "registry" => stores::registry(files)?,
            "s3" => stores::s3(files)?,
            _ => kubelet::start(files)?,
        };
        self.programs.insert(name, program);
        Ok(())
    }

    /// Stops one as a service manager does.
    pub(crate) fn stop(&mut self, name: &str) -> Result<()> {
        let mut program =
            self.programs.remove(name).with_context(|| format!("{name} is not running"))?;
        program.signal(Signal::TERM)?;
        program.wait(STOP)?;
        Ok(())
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(self.files.program("kubernetes", "kubectl")?);
        command.arg("--kubeconfig").arg(self.files.kubeconfig("admin")).args(arguments);
        let output = command.output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("kubectl {}: {}", arguments.join(" "), said.trim());
        }
        Ok(())
    }

    /// Waits until pods can be scheduled.
    fn until_ready(&mut self) -> Result<()> {
        let mut kubectl = Command::new(self.files.program("kubernetes", "kubectl")?);
        kubectl.arg("--kubeconfig").arg(self.files.kubeconfig("admin")).args([
            "wait",
            "--for=condition=Ready",
            "--timeout=1s",
            &format!("node/{NODE_NAME}"),
        ]);
        let kubelet = self.programs.get_mut("kubelet").context("there is no kubelet")?;
        kubelet.until(NODE_READY, |_| {
            kubectl.output().ok().filter(|output| output.status.success()).map(|_| ())
        })
    }

    /// Argo's own manifests, with the images that were built, and the artifacts in the S3 server.
    fn install_argo(&self) -> Result<()> {
        let module = fs::read_to_string(self.files.at("argo-module"))?;
        let links = self.files.at("argo");
        // kustomize reads nothing from outside the directory it is given.
        copy(Path::new(module.trim()), &links.join("upstream"), "manifests")?;
        let own = paths::root().join("tests/cluster/argo");
        for entry in fs::read_dir(&own)? {
            let entry = entry?;
            fs::copy(entry.path(), links.join(entry.file_name()))?;
        }
        self.kubectl(&["apply", "--server-side", "-k", &links.display().to_string()])
    }
}

/// Copies a directory of the module cache, whose files are read-only.
fn copy(from: &Path, to: &Path, name: &str) -> Result<()> {
    fs::create_dir_all(to)?;
    let status = Command::new("cp")
        .args(["-r", "--no-preserve=mode"])
        .arg(from.join(name))
        .arg(to)
        .status()?;
    if !status.success() {
        bail!("cp of {} ended with {status}", from.join(name).display());
    }
    Ok(())
}
