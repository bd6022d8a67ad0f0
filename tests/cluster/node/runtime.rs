//! containerd, with Debian's runc and network plugins.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use warmstep_tests::cluster::{PAUSE, REGISTRY, REGISTRY_ADDRESS};
use warmstep_tests::paths;
use warmstep_tests::program::Program;

use crate::files::Files;

const START: Duration = Duration::from_secs(60);

/// Where containerd listens, in the cluster's own /run.
pub(crate) const SOCKET: &str = "/run/containerd/containerd.sock";

pub(crate) fn start(files: &Files, networks: &Path) -> Result<Program> {
    let hosts = files.at("hosts").join(REGISTRY);
    fs::create_dir_all(&hosts)?;
    // It speaks plain HTTP, and no name server knows it.
    fs::write(hosts.join("hosts.toml"), format!("server = \"http://{REGISTRY_ADDRESS}\"\n"))?;
    fs::write(files.at("containerd.toml"), configuration(files, networks))?;
    let programs = paths::part("containerd")?;
    let mut command = Command::new(programs.join("containerd"));
    command.arg("--config").arg(files.at("containerd.toml"));
    // It looks there for its shim.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", programs.display()));
    let mut containerd = Program::start("containerd", command, &files.log("containerd"))?;
    let ctr = programs.join("ctr");
    containerd.until(START, |_| {
        let output = Command::new(&ctr).args(["--address", SOCKET, "version"]).output().ok()?;
        output.status.success().then_some(())
    })?;
    Ok(containerd)
}

/// Without CAP_SYS_RESOURCE a container's score cannot be set below the machine's own.
fn configuration(files: &Files, networks: &Path) -> String {
    format!(
        "version = 3
[grpc]
address = \"{SOCKET}\"
[plugins.'io.containerd.cri.v1.images']
use_local_image_pull = true
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = \"{PAUSE}\"
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = \"{}\"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = [\"/usr/lib/cni\"]
conf_dir = \"{}\"
",
        files.at("hosts").display(),
        networks.display()
    )
}

/// Imports an archive of images for the kubelet.
pub(crate) fn import(archive: &Path) -> Result<()> {
    let output = Command::new(paths::part("containerd")?.join("ctr"))
        .args(["--address", SOCKET, "--namespace", "k8s.io", "images", "import"])
        .arg(archive)
        .output()?;
    if !output.status.success() {
        bail!(
            "cannot import {}: {}",
            archive.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
