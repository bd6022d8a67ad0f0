//! The images of the cluster, built from nothing by `tests/tools/images` and imported.

use std::path::PathBuf;

use anyhow::{Context, Result};
use warmstep_tests::paths;

use crate::runtime;

/// Imports everything that lies in `target/images`.
pub(crate) fn import() -> Result<()> {
    for archive in archives()? {
        runtime::import(&archive)?;
    }
    Ok(())
}

fn archives() -> Result<Vec<PathBuf>> {
    let directory = paths::root().join("target/images");
    let entries = std::fs::read_dir(&directory)
        .with_context(|| format!("{}: run make images", directory.display()))?;
    let mut archives = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tar") {
            archives.push(path);
        }
    }
    archives.sort();
    Ok(archives)
}
