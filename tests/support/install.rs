//! What a node's operator does on the cluster of the tests: the manifests, with an overlay for what
//! is that cluster's own, and the examples' modules in its registry.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::cluster::{Cluster, NODE, REGISTRY, REGISTRY_ADDRESS};
use crate::{Form, Registry, modules, paths};

/// How long the DaemonSet and Argo's controller may take to be ready.
const ROLLOUT: Duration = Duration::from_secs(180);

/// The modules of the examples, under the names that their workflows have for them.
const MODULES: [(&str, &str, &str); 5] = [
    ("hello", "hello", "1"),
    ("markdown", "markdown", "1"),
    ("sqlite", "sqlite", "1"),
    ("python", "python", "3.11"),
    ("untrusted", "untrusted", "1"),
];

/// Pushes the modules, installs the agent and Argo's settings, and waits until both are ready.
///
/// # Errors
///
/// When a module has not been built, or something cannot be applied or does not get ready.
pub fn everything(cluster: &Cluster) -> Result<()> {
    let registry = Registry::at(REGISTRY_ADDRESS);
    for (module, repository, tag) in MODULES {
        registry.push(repository, tag, Form::Cncf, modules::read(module)?)?;
    }
    registry.push("prewarmed", "1", Form::Older, modules::read("hello")?)?;
    let own = TempDir::with_prefix("warmstep-manifests-")?;
    overlay(own.path())?;
    cluster.kubectl(&["apply", "-k", &own.path().display().to_string()])?;
    let argo = paths::root().join("manifests/argo");
    cluster.kubectl(&[
        "apply",
        "--server-side",
        // On a cluster that is used again, somebody may have set them by hand.
        "--force-conflicts",
        "--field-manager=warmstep",
        "-k",
        &argo.display().to_string(),
    ])?;
    let steps = paths::root().join("tests/cluster/argo/steps.yaml");
    cluster.kubectl(&["apply", "-f", &steps.display().to_string()])?;
    rolled_out(cluster, "warmstep", "daemonset/warmstep-agent")?;
    rolled_out(cluster, "argo", "deployment/workflow-controller")
}

/// Waits for a rollout.
///
/// # Errors
///
/// When it is not done in time; pods, events and logs are part of the error.
pub fn rolled_out(cluster: &Cluster, namespace: &str, what: &str) -> Result<()> {
    let timeout = format!("--timeout={}s", ROLLOUT.as_secs());
    if let Err(error) = cluster.kubectl(&["rollout", "status", "-n", namespace, what, &timeout]) {
        bail!("{error:#}\n{}", cluster.report(namespace));
    }
    Ok(())
}

/// `manifests` as they are, and on top what a user would set too: where the registry is, and that
/// it has no TLS.
fn overlay(directory: &Path) -> Result<()> {
    copy(&paths::root().join("manifests"), directory)?;
    let settings = directory.join("manifests/agent.toml");
    let mut text = fs::read_to_string(&settings).context("agent.toml")?;
    text += &format!("\n[registry.\"{REGISTRY}\"]\nplain_http = true\n");
    fs::write(&settings, text)?;
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [manifests]
patches:
  - target: {{kind: DaemonSet, name: warmstep-agent}}
    patch: |
      - op: add
        path: /spec/template/spec/hostAliases
        value: [{{ip: {NODE}, hostnames: [{REGISTRY}]}}]
"
    );
    fs::write(directory.join("kustomization.yaml"), text)?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().context("cp")?;
    if !status.success() {
        bail!("cp of {} ended with {status}", from.display());
    }
    Ok(())
}
