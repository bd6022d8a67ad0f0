//! Where the cluster's files are, on the machine and inside.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use warmstep_tests::cluster;

/// The parts as `tests/tools/parts` left them, and what the cluster writes.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// The cluster's own directory.
    pub(crate) state: PathBuf,
}

/// The variable that hands a part's directory down from the keeper.
fn variable(part: &str) -> String {
    format!("WARMSTEP_PART_{}", part.to_uppercase())
}

/// The parts that a cluster needs.
pub(crate) const PARTS: [&str; 5] = ["etcd", "containerd", "versitygw", "argo", "kubernetes"];

impl Files {
    pub(crate) fn new() -> Self {
        Self { state: PathBuf::from(cluster::STATE) }
    }

    /// A file or directory of the cluster.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// A program's log.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.state.join("logs").join(format!("{name}.log"))
    }

    /// A kubeconfig.
    pub(crate) fn kubeconfig(&self, name: &str) -> PathBuf {
        self.state.join(format!("{name}.kubeconfig"))
    }

    /// A program of a part.
    pub(crate) fn program(&self, part: &str, name: &str) -> Result<PathBuf> {
        let directory = std::env::var_os(variable(part))
            .with_context(|| format!("the keeper names no directory of {part}"))?;
        Ok(Path::new(&directory).join(name))
    }
}

/// The environment in which the directories of the parts are handed down.
pub(crate) fn environment(parts: &[(String, PathBuf)]) -> Vec<(String, PathBuf)> {
    parts.iter().map(|(part, path)| (variable(part), path.clone())).collect()
}
