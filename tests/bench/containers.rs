//! What a container costs: the no-op program in one, run by containerd and runc.
//!
//! containerd is started here, with a socket and directories of its own; one that the machine runs
//! anyway is not touched.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tempfile::TempDir;
use warmstep_tests::program::Program;
use warmstep_tests::push;

use crate::rival;

/// How long containerd may take to listen.
const START: Duration = Duration::from_secs(30);

/// What containerd and its shims make outside of the directories that they are given.
const RUN: [&str; 4] = [
    "/run/containerd/fifo",
    "/run/containerd/s",
    "/run/containerd/runc/default",
    "/run/containerd/runc",
];

/// The image's name. It is never pulled.
const IMAGE: &str = "docker.io/library/noop:latest";

/// A containerd that has the image.
pub(crate) struct Containers {
    ctr: PathBuf,
    socket: PathBuf,
    version: String,
    // Dropped in this order: what runs does not lose its directories.
    _containerd: Program,
    _scratch: TempDir,
    _run: Tidy,
}

impl Containers {
    /// Starts it, if the programs are there and this is root.
    pub(crate) fn start(noop: &Path) -> Result<Option<Self>> {
        let programs = ["containerd", "ctr", "runc"].map(rival::on_path);
        let [Some(containerd), Some(ctr), Some(runc)] = programs else { return Ok(None) };
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let version = format!("{}, {}", rival::version(&containerd)?, rival::version(&runc)?);
        let scratch = TempDir::with_prefix("warmstep-bench-containerd-")?;
        let socket = scratch.path().join("containerd.sock");
        let mut command = Command::new(containerd);
        command.arg("--config").arg(configure(scratch.path(), &socket)?);
        let run = Tidy;
        let mut containerd = Program::start("containerd", command, &scratch.path().join("log"))?;
        containerd.until(START, |_| UnixStream::connect(&socket).ok())?;
        let containers =
            Self { ctr, socket, version, _containerd: containerd, _scratch: scratch, _run: run };
        containers.import(&image(containers._scratch.path(), noop)?)?;
        Ok(Some(containers))
    }

    /// What runs the containers.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Runs the no-op program in a fresh container, which is removed; one at a time.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.ctr();
        // A control group that goes with the container, without a parent that stays.
        command.args(["run", "--rm", "--cgroup", "/warmstep-bench", IMAGE, "warmstep-bench"]);
        command
    }

    fn import(&self, image: &Path) -> Result<()> {
        let output = self.ctr().args(["image", "import"]).arg(image).output()?;
        if !output.status.success() {
            bail!("ctr image import: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(())
    }

    fn ctr(&self) -> Command {
        let mut command = Command::new(&self.ctr);
        command.arg("--address").arg(&self.socket).stdin(Stdio::null());
        command
    }
}

/// Writes a configuration without what only Kubernetes or other file systems want.
fn configure(scratch: &Path, socket: &Path) -> Result<PathBuf> {
    let disabled = ["grpc.v1.cri", "snapshotter.v1.btrfs", "snapshotter.v1.zfs", "internal.v1.opt"]
        .map(|plugin| format!("io.containerd.{plugin}"));
    let text = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = {disabled:?}\n\
         [grpc]\naddress = {socket:?}\n",
        scratch.join("root"),
        scratch.join("state"),
    );
    let path = scratch.join("config.toml");
    fs::write(&path, text)?;
    Ok(path)
}

/// Makes an image that holds nothing but the program, in the form of `docker save`: its layers, the
/// configuration that names their digests, and a manifest.
fn image(scratch: &Path, noop: &Path) -> Result<PathBuf> {
    let directory = scratch.join("image");
    fs::create_dir(&directory)?;
    fs::copy(noop, directory.join("noop")).with_context(|| noop.display().to_string())?;
    archive(&directory, "layer.tar", &["noop"])?;
    let layer = push::sha256(&fs::read(directory.join("layer.tar"))?);
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/noop"]},
        "rootfs": {"type": "layers", "diff_ids": [layer]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    fs::write(directory.join("config.json"), config.to_string())?;
    fs::write(directory.join("manifest.json"), manifest.to_string())?;
    archive(&directory, "image.tar", &["manifest.json", "config.json", "layer.tar"])?;
    Ok(directory.join("image.tar"))
}

fn archive(directory: &Path, name: &str, members: &[&str]) -> Result<()> {
    let mut command = Command::new("tar");
    command.current_dir(directory).arg("-cf").arg(name).args(members);
    let status = command.status().context("tar")?;
    if !status.success() {
        bail!("tar ended with {status}");
    }
    Ok(())
}

/// Removes what containerd leaves in `/run`, where it is empty: another containerd may use it.
struct Tidy;

impl Drop for Tidy {
    fn drop(&mut self) {
        for directory in RUN {
            let _ = fs::remove_dir(directory);
        }
    }
}
