//! The cluster's network: one address of the node, reached from the machine through a pair of
//! virtual interfaces. They end with the namespace.
//!
//! There is no kube-proxy. The one service that pods need is the API server, so its service address
//! is the node's own, and it listens on the service's port.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Pid;
use warmstep_tests::apiserver::SERVICE;
use warmstep_tests::cluster::{NODE, PODS};
use warmstep_tests::interrupt;

const OUTSIDE: &str = "wstep-host";
const INSIDE: &str = "wstep-node";
const HOST: &str = "10.199.199.1";

/// How long the keeper may take to bring the inside's interface.
const PATIENCE: Duration = Duration::from_secs(20);

/// Joins the machine to the namespace of `process`.
pub(crate) fn join(process: Pid) -> Result<()> {
    let process = process.as_raw_nonzero().to_string();
    ip(&["link", "add", OUTSIDE, "type", "veth", "peer", "name", INSIDE, "netns", &process])?;
    ip(&["addr", "add", &format!("{HOST}/30"), "dev", OUTSIDE])?;
    ip(&["link", "set", OUTSIDE, "up"])?;
    ip(&["route", "add", PODS, "via", NODE])
}

/// Removes the machine's end of the pair, and with it the other one: the kernel takes its time to
/// end a namespace.
pub(crate) fn part() -> Result<()> {
    if !Path::new("/sys/class/net").join(OUTSIDE).exists() {
        return Ok(());
    }
    match ip(&["link", "delete", OUTSIDE]) {
        // The kernel was quicker.
        Err(_) if !Path::new("/sys/class/net").join(OUTSIDE).exists() => Ok(()),
        done => done,
    }
}

/// Sets up the inside, once it is joined, and what the pods' bridge is made from.
pub(crate) fn arrange(configuration: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !Path::new("/proc/sys/net/ipv4/conf").join(INSIDE).exists() {
        interrupt::check()?;
        if Instant::now() > deadline {
            bail!("nobody brings the interface {INSIDE}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    ip(&["link", "set", "lo", "up"])?;
    ip(&["addr", "add", &format!("{NODE}/30"), "dev", INSIDE])?;
    ip(&["link", "set", INSIDE, "up"])?;
    ip(&["route", "add", "default", "via", HOST])?;
    ip(&["addr", "add", &format!("{SERVICE}/32"), "dev", "lo"])?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("forwarding between pods and node")?;
    fs::create_dir_all(configuration)?;
    let text = format!(
        r#"{{
  "cniVersion": "1.0.0", "name": "warmstep",
  "plugins": [{{
    "type": "bridge", "bridge": "wstep-pods", "isGateway": true, "ipMasq": false,
    "ipam": {{
      "type": "host-local", "dataDir": "/run/cni",
      "ranges": [[{{"subnet": "{PODS}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]
    }}
  }}]
}}
"#
    );
    fs::write(configuration.join("10-warmstep.conflist"), text)?;
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output =
        Command::new("ip").args(arguments).output().context("ip: tests/tools/setup cluster")?;
    if !output.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
