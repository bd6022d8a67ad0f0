//! A workflow: created from its file, waited for, and looked at.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use warmstep_tests::cluster::Cluster;

/// Where workflows run.
pub(crate) const NAMESPACE: &str = "default";

/// How long one may take, where nothing else is said: pods start slowly on two processors.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// One that was created; deleted when dropped, with its pods.
pub(crate) struct Workflow<'a> {
    cluster: &'a Cluster,
    pub(crate) name: String,
}

impl<'a> Workflow<'a> {
    /// Creates it from its text.
    pub(crate) fn create(cluster: &'a Cluster, text: &str) -> Result<Self> {
        let arguments = ["create", "-n", NAMESPACE, "-o", "jsonpath={.metadata.name}", "-f", "-"];
        let name = cluster.kubectl_with(&arguments, text)?;
        Ok(Self { cluster, name })
    }

    /// Creates it from a file of the examples or the tests.
    pub(crate) fn from_file(cluster: &'a Cluster, path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::create(cluster, &text)
    }

    /// Waits until it has ended, and tells how.
    pub(crate) fn ended(&self) -> Result<Ended> {
        self.ended_within(PATIENCE)
    }

    /// As [`Workflow::ended`].
    pub(crate) fn ended_within(&self, most: Duration) -> Result<Ended> {
        let waited = self.cluster.kubectl(&[
            "wait",
            "-n",
            NAMESPACE,
            "--for=condition=Completed",
            &format!("--timeout={}s", most.as_secs()),
            &format!("workflow/{}", self.name),
        ]);
        if let Err(error) = waited {
            bail!("{error:#}\n{}", self.cluster.report(NAMESPACE));
        }
        Ok(Ended { status: self.object()? })
    }

    /// Waits until it has succeeded.
    pub(crate) fn succeeded(&self) -> Result<Ended> {
        let ended = self.ended()?;
        if ended.phase() != "Succeeded" {
            bail!("{}: {}\n{}", self.name, ended.summary(), self.cluster.report(NAMESPACE));
        }
        Ok(ended)
    }

    /// What the API server has of it.
    pub(crate) fn object(&self) -> Result<Value> {
        self.cluster.get(&["-n", NAMESPACE, "workflow", &self.name])
    }

    /// The log of a step's own container, while its pod is there, without what Argo's executor and
    /// the shim say of themselves.
    pub(crate) fn log(&self, pod: &str) -> Result<String> {
        let log = self.cluster.kubectl(&["logs", "-n", NAMESPACE, pod, "-c", "main"])?;
        let own = |line: &&str| {
            let executor = line.starts_with("time=") && line.contains(" argo=true");
            !executor && !line.starts_with("warmstep: ")
        };
        Ok(log.lines().filter(own).map(|line| format!("{line}\n")).collect())
    }

    /// `STEP: LINE` for every line of every pod, sorted by step: what `expected.txt` holds.
    pub(crate) fn lines(&self, ended: &Ended) -> Result<String> {
        let mut steps: Vec<(String, String)> = ended
            .nodes()
            .filter(|node| node["type"] == "Pod")
            .map(|node| {
                let step = text(&node["displayName"]);
                // A workflow of one template has one node, under the workflow's name.
                let step = if step == self.name { text(&node["templateName"]) } else { step };
                (step, pod_name(node))
            })
            .collect();
        steps.sort();
        let mut lines = String::new();
        for (step, pod) in steps {
            for line in self.log(&pod)?.lines() {
                lines += &format!("{step}: {line}\n");
            }
        }
        Ok(lines)
    }

    /// Changes it, as `argo stop` and `argo terminate` do.
    pub(crate) fn patch(&self, patch: &str) -> Result<()> {
        let arguments =
            ["patch", "-n", NAMESPACE, "workflow", &self.name, "--type=merge", "-p", patch];
        self.cluster.kubectl(&arguments).map(|_| ())
    }
}

impl Drop for Workflow<'_> {
    fn drop(&mut self) {
        let _ = self.cluster.kubectl(&[
            "delete",
            "-n",
            NAMESPACE,
            "--wait=false",
            "workflow",
            &self.name,
        ]);
    }
}

/// One that has ended.
pub(crate) struct Ended {
    status: Value,
}

impl Ended {
    pub(crate) fn phase(&self) -> &str {
        self.status["status"]["phase"].as_str().unwrap_or_default()
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Value> {
        self.status["status"]["nodes"].as_object().into_iter().flatten().map(|(_, node)| node)
    }

    /// The node of a step, by the name that people see.
    pub(crate) fn node(&self, step: &str) -> Result<&Value> {
        let node = self.nodes().find(|node| {
            node["displayName"] == step || (node["type"] == "Pod" && node["templateName"] == step)
        });
        node.with_context(|| format!("{} has no step {step}: {}", self.name(), self.summary()))
    }

    fn name(&self) -> String {
        text(&self.status["metadata"]["name"])
    }

    /// An output parameter of a step.
    pub(crate) fn parameter(&self, step: &str, name: &str) -> Result<String> {
        let node = self.node(step)?;
        let parameters = node["outputs"]["parameters"].as_array().into_iter().flatten();
        let parameter = parameters.into_iter().find(|parameter| parameter["name"] == name);
        let parameter = parameter.with_context(|| format!("{step} has no parameter {name}"))?;
        Ok(text(&parameter["value"]))
    }

    /// Every node's phase and message, in a line.
    pub(crate) fn summary(&self) -> String {
        let nodes: Vec<String> = self
            .nodes()
            .map(|node| {
                format!(
                    "{}: {} {}",
                    text(&node["displayName"]),
                    text(&node["phase"]),
                    text(&node["message"])
                )
            })
            .collect();
        format!("{}; {}", self.phase(), nodes.join("; "))
    }

    /// Fails unless a step ended with this exit code.
    pub(crate) fn exit_code(&self, step: &str, code: &str) -> Result<()> {
        let node = self.node(step)?;
        ensure!(node["outputs"]["exitCode"] == code, "{step}: {node}");
        Ok(())
    }
}

/// The name of a node's pod, as Argo makes it: the workflow's, the template's, and the node's hash.
pub(crate) fn pod_name(node: &Value) -> String {
    let id = text(&node["id"]);
    // A workflow of one template has a pod of its own name.
    if node["name"] == node["id"] {
        return id;
    }
    match id.rsplit_once('-') {
        Some((workflow, hash)) => format!("{workflow}-{}-{hash}", text(&node["templateName"])),
        None => id,
    }
}

/// A JSON string without its quotes; nothing for anything else.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A workflow of one template, `step`, whose fields these are.
pub(crate) fn one_step(fields: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata:
  generateName: step-
spec:
  entrypoint: step
  templates:
    - name: step
{}
",
        indented(fields, 6)
    )
}

/// Every line of a text behind so many spaces.
pub(crate) fn indented(text: &str, spaces: usize) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("{:spaces$}{line}", "")).collect();
    lines.join("\n")
}
