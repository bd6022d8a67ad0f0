//! Every example of `examples/argo`, against its `expected.txt`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use warmstep_tests::cluster::Cluster;
use warmstep_tests::paths;

use crate::Test;
use crate::workflow::{NAMESPACE, Workflow};

/// How long a module may take to be warm after its object was made.
const WARM: Duration = Duration::from_secs(60);

pub(crate) const TESTS: &[Test] = &[
    ("examples::hello", |cluster| example(cluster, "hello")),
    ("examples::markdown", |cluster| example(cluster, "markdown")),
    ("examples::python_script", |cluster| example(cluster, "python-script")),
    ("examples::pipeline", |cluster| example(cluster, "pipeline")),
    ("examples::fan_out", |cluster| example(cluster, "fan-out")),
    ("examples::untrusted", |cluster| example(cluster, "untrusted")),
    ("examples::prewarmed", prewarmed),
];

/// A file of an example.
fn file(name: &str, file: &str) -> PathBuf {
    paths::example("argo").join(name).join(file)
}

fn example(cluster: &Cluster, name: &str) -> Result<()> {
    let workflow = Workflow::from_file(cluster, &file(name, "workflow.yaml"))?;
    let ended = workflow.succeeded()?;
    let printed = workflow.lines(&ended)?;
    let expected = fs::read_to_string(file(name, "expected.txt"))?;
    ensure!(printed == expected, "{name} printed\n{printed}instead of\n{expected}");
    Ok(())
}

/// An example's workflow.
pub(crate) fn text(name: &str) -> Result<String> {
    Ok(fs::read_to_string(file(name, "workflow.yaml"))?)
}

/// The template's module is warm before anybody runs it, and then it is run.
fn prewarmed(cluster: &Cluster) -> Result<()> {
    let template = file("prewarmed", "template.yaml");
    cluster.kubectl(&["apply", "-n", NAMESPACE, "-f", &template.display().to_string()])?;
    until_warm(cluster, "oci://registry.warmstep.test/prewarmed:1")?;
    example(cluster, "prewarmed")
}

/// Waits until the node's agent says that a module that somebody wants is warm.
pub(crate) fn until_warm(cluster: &Cluster, reference: &str) -> Result<()> {
    cluster.until("the module is warm", WARM, |cluster| {
        let status = agent_status(cluster)?;
        let wanted = status["prewarm"]["modules"].as_array().into_iter().flatten();
        let module = wanted.into_iter().find(|module| module["module"] == reference);
        Ok(module.filter(|module| module["state"] == "warm").map(|_| ()))
    })
}

/// What `warmstep-agent status` says on the node.
fn agent_status(cluster: &Cluster) -> Result<serde_json::Value> {
    let pod = ["exec", "-n", "warmstep", "daemonset/warmstep-agent", "-c", "agent", "--"];
    let command = ["warmstep-agent", "status", "--output", "json"];
    Ok(serde_json::from_str(&cluster.kubectl(&[&pod[..], &command].concat())?)?)
}
