//! The cluster's own view of the file system: what its programs write to their usual places lands
//! in the cluster's directory, and every mount ends with the namespace.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

/// Where programs write, and what lies there instead of the machine's own: a directory of the
/// cluster's, or memory for what does not outlive a boot.
const REPLACED: [(&str, Option<&str>); 3] =
    [("/var/lib", Some("var-lib")), ("/var/log", Some("var-log")), ("/run", None)];

/// Makes the view, in a mount namespace that is private already.
pub(crate) fn arrange(state: &Path) -> Result<()> {
    // The kubelet hands mounts on to containers.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .context("sharing mounts within the cluster")?;
    mount("proc", "/proc", "proc", MountFlags::empty(), None).context("/proc")?;
    for (path, directory) in REPLACED {
        match directory {
            Some(name) => {
                let own = state.join(name);
                fs::create_dir_all(&own).with_context(|| own.display().to_string())?;
                mount_bind(&own, path).context(path)?;
            }
            None => {
                mount("tmpfs", path, "tmpfs", MountFlags::empty(), Some(c"mode=755"))
                    .context(path)?;
            }
        }
    }
    Ok(())
}
