//! Where the cluster's files are.

use std::path::PathBuf;

use warmstep_tests::cluster;

/// What the cluster writes.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// The cluster's own directory.
    pub(crate) state: PathBuf,
}

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
}
