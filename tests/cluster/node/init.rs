//! Process 1 of the cluster's namespaces: it reaps what nobody waits for, until `node` has ended.
//!
//! When it ends, the kernel kills everything in its PID namespace: no shim of a container outlives
//! the cluster.

use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, WaitOptions, wait};

/// Starts `node` and waits for it.
pub(crate) fn run() -> Result<()> {
    if std::process::id() != 1 {
        bail!("init is only for the cluster's own namespaces");
    }
    let own = std::env::current_exe()?;
    let node = Command::new(own).arg("node").spawn().context("node")?;
    let node = Pid::from_child(&node);
    loop {
        // It never runs out of children: `node` is one until it is met here.
        let Some((pid, status)) = wait(WaitOptions::empty())? else { continue };
        if pid == node {
            match status.exit_status() {
                Some(0) => return Ok(()),
                _ => bail!("node ended with {status:?}"),
            }
        }
    }
}
