//! Every example of `examples/argo`, against its `expected.txt`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use warmstep_tests::cluster::Cluster;
use warmstep_tests::paths;

use crate::Test;
use crate::workflow::Workflow;

pub(crate) const TESTS: &[Test] = &[
    ("examples::hello", |cluster| example(cluster, "hello")),
    ("examples::markdown", |cluster| example(cluster, "markdown")),
    ("examples::python_script", |cluster| example(cluster, "python-script")),
    ("examples::pipeline", |cluster| example(cluster, "pipeline")),
    ("examples::fan_out", |cluster| example(cluster, "fan-out")),
    ("examples::untrusted", |cluster| example(cluster, "untrusted")),
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
