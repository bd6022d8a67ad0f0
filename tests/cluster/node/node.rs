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
use warmstep_tests::{ApiServer, interrupt, paths};

use crate::files::Files;
use crate::{control, images, kubelet, mounts, network, plane, runtime, stores};

/// How long a program may take to end when it is stopped on purpose.
const STOP: Duration = Duration::from_secs(30);

/// How long the node may take to become ready.
const NODE_READY: Duration = Duration::from_secs(120);

/// What runs.
pub(crate) struct Node {
    files: Files,
    networks: PathBuf,
    server: ApiServer,
    programs: BTreeMap<&'static str, Program>,
}

/// The API server, which has its etcd with it.
const SERVER: &str = "kube-apiserver";

/// The other programs, in the order of their start.
const NAMES: [&str; 6] =
    ["kube-controller-manager", "kube-scheduler", "containerd", "registry", "s3", "kubelet"];

/// Runs until it is killed, with everything else in the namespaces.
pub(crate) fn run() -> Result<()> {
    interrupt::watch()?;
    let files = Files::new();
    mounts::arrange(&files.state)?;
    let networks = files.at("networks");
    network::arrange(&networks)?;
    let server = plane::apiserver(&files)?;
    let mut node = Node { files, networks, server, programs: BTreeMap::new() };
    for name in NAMES {
        node.start(name)?;
        if name == "containerd" {
            images::import()?;
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
        if name == SERVER {
            return self.server.start();
        }
        let Some(name) = NAMES.into_iter().find(|known| *known == name) else {
            bail!("no program is called {name}");
        };
        if self.programs.contains_key(name) {
            bail!("{name} is running already");
        }
        let (files, server) = (&self.files, &self.server);
        let program = match name {
            "kube-controller-manager" => plane::controller_manager(files, server)?,
            "kube-scheduler" => plane::scheduler(files, server)?,
            "containerd" => runtime::start(files, &self.networks)?,
            "registry" => stores::registry(files)?,
            "s3" => stores::s3(files)?,
            _ => kubelet::start(files, server)?,
        };
        self.programs.insert(name, program);
        Ok(())
    }

    /// Stops one as a service manager does.
    pub(crate) fn stop(&mut self, name: &str) -> Result<()> {
        if name == SERVER {
            return self.server.stop();
        }
        let mut program =
            self.programs.remove(name).with_context(|| format!("{name} is not running"))?;
        program.signal(Signal::TERM)?;
        program.wait(STOP)?;
        Ok(())
    }

    /// Waits until pods can be scheduled.
    fn until_ready(&mut self) -> Result<()> {
        let node = format!("node/{NODE_NAME}");
        let question = ["wait", "--for=condition=Ready", "--timeout=1s", &node];
        let kubelet = self.programs.get_mut("kubelet").context("there is no kubelet")?;
        kubelet.until(NODE_READY, |_| self.server.kubectl(&question).ok()).map(drop)
    }

    /// Argo's own manifests, with the images that were built, and the artifacts in the S3 server.
    fn install_argo(&self) -> Result<()> {
        let links = self.files.at("argo");
        // kustomize reads nothing from outside the directory it is given.
        copy(&paths::argo_module()?, &links.join("upstream"), "manifests")?;
        let own = paths::root().join("tests/cluster/argo");
        for entry in fs::read_dir(&own)? {
            let entry = entry?;
            fs::copy(entry.path(), links.join(entry.file_name()))?;
        }
        let links = links.display().to_string();
        self.server.kubectl(&["apply", "--server-side", "-k", &links]).map(drop)
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
