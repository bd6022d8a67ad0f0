//! The cluster's cgroups: one below the root of every hierarchy, in which the kubelet makes the
//! pods' own.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The name of the cluster's cgroup, which the kubelet is told.
pub(crate) const NAME: &str = "warmstep-cluster";

/// How long killed processes may take to leave their cgroups.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes it in every hierarchy.
pub(crate) fn create() -> Result<()> {
    for hierarchy in hierarchies()? {
        let own = hierarchy.join(NAME);
        match fs::create_dir(&own) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).context(own.display().to_string()),
        }
        // A new cgroup of this hierarchy has no processors, and takes nobody until it has.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read_to_string(hierarchy.join(file)) {
                fs::write(own.join(file), value.trim())
                    .context(own.join(file).display().to_string())?;
            }
        }
    }
    Ok(())
}

/// Removes it from every hierarchy, once those who were in it are gone.
pub(crate) fn remove() -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for hierarchy in hierarchies()? {
        let own = hierarchy.join(NAME);
        while own.exists() {
            match remove_tree(&own) {
                Ok(()) => break,
                Err(error) if Instant::now() > deadline => {
                    bail!("{} stays: {error}", own.display());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
    Ok(())
}

/// Depth first: a cgroup goes when it has no children, and no files have to.
fn remove_tree(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The mount points of all hierarchies, of both versions.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    Ok(mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup" || kind == "cgroup2").then(|| PathBuf::from(path))
        })
        .collect())
}
