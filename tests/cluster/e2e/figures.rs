//! `make e2e-figures`: the same step as a container and as a module, measured on the cluster.
//!
//! Kubernetes and Argo tell times in whole seconds, so one round says little: the table has the
//! mean of all rounds.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use humantime::parse_rfc3339;
use serde_json::{Value, json};
use warmstep_tests::cluster::{Cluster, REGISTRY, REGISTRY_ADDRESS};
use warmstep_tests::push::{Config, ImageLayer, sha256};
use warmstep_tests::{Form, Registry, install, machine, modules};

use crate::workflow::{NAMESPACE, Workflow, one_step, text};
use crate::{Test, examples};

pub(crate) const TESTS: &[Test] = &[("figures", figures)];

/// How often each kind of step runs, with each of Argo's settings.
const ROUNDS: usize = 4;

/// How long a step of a fan-out may take, all of them together.
const FAN_OUT: Duration = Duration::from_secs(600);

/// The kinds of step, in the order of the table.
const KINDS: [(&str, &str); 5] = [
    ("pulled", "a container, its image pulled (2 MB)"),
    ("there", "a container, its image there"),
    ("cold", "a module, cold"),
    ("warm", "a module, warm"),
    ("prewarmed", "a module, prewarmed, its first step"),
];

/// Argo's settings: their name, and `DEFAULT_REQUEUE_TIME`.
const SETTINGS: [(&str, &str); 2] = [("Argo's defaults", "10s"), ("manifests/argo", "1s")];

/// Seconds of one kind of step, a round each.
#[derive(Default)]
struct Seconds {
    pod: Vec<f64>,
    workflow: Vec<f64>,
}

fn figures(cluster: &Cluster) -> Result<()> {
    let mut measured: BTreeMap<(usize, usize), Seconds> = BTreeMap::new();
    let mut fan_outs = Vec::new();
    for (setting, (_, requeue)) in SETTINGS.iter().enumerate() {
        configure(cluster, requeue)?;
        for round in 0..ROUNDS {
            for (kind, (name, _)) in KINDS.iter().enumerate() {
                let unique = format!("{name}-{setting}-{round}");
                let step = prepare(cluster, name, &unique)?;
                let seconds = measured.entry((setting, kind)).or_default();
                let workflow = Workflow::create(cluster, &step)?;
                workflow.succeeded()?;
                seconds.pod.push(pod_seconds(cluster, &workflow.name)?);
                seconds.workflow.push(workflow_seconds(&workflow.object()?)?);
            }
        }
        for text in [fan_out_of_containers()?, examples::text("fan-out")?] {
            let workflow = Workflow::create(cluster, &text)?;
            workflow.ended_within(FAN_OUT)?;
            fan_outs.push(workflow_seconds(&workflow.object()?)?);
        }
    }
    configure(cluster, SETTINGS[1].1)?;
    println!(
        "{}\n\n{}\n\nMeasured on {}.",
        steps(&measured),
        together(&fan_outs),
        machine::describe()?
    );
    Ok(())
}

/// Argo's controller with one of the settings.
fn configure(cluster: &Cluster, requeue: &str) -> Result<()> {
    let (qps, burst) = if requeue == "1s" { ("50", "100") } else { ("20", "30") };
    cluster.kubectl(&[
        "set",
        "env",
        "-n",
        "argo",
        "deployment/workflow-controller",
        &format!("DEFAULT_REQUEUE_TIME={requeue}"),
        &format!("ARGO_QPS={qps}"),
        &format!("ARGO_BURST={burst}"),
    ])?;
    install::rolled_out(cluster, "argo", "deployment/workflow-controller")
}

/// Makes a step of a kind possible, and tells its workflow.
fn prepare(cluster: &Cluster, kind: &str, unique: &str) -> Result<String> {
    let registry = Registry::at(REGISTRY_ADDRESS);
    Ok(match kind {
        "pulled" => {
            push_image(&registry, unique)?;
            container(&format!("{REGISTRY}/{unique}:1"))
        }
        "there" => container("warmstep.test/shell:cluster"),
        "warm" => module("hello"),
        _ => {
            registry.push(unique, "1", Form::Cncf, another_hello(unique)?)?;
            if kind == "prewarmed" {
                want(cluster, unique)?;
            }
            module(unique)
        }
    })
}

fn container(image: &str) -> String {
    one_step(&format!("container: {{image: '{image}', command: [/bin/busybox, echo, hello]}}"))
}

fn module(repository: &str) -> String {
    one_step(&format!(
        "container: {{image: 'warmstep:0.1.0', command: [warmstep, run, 'oci://{REGISTRY}/{repository}:1']}}"
    ))
}

/// The same program under another digest: with a custom section of its own.
fn another_hello(name: &str) -> Result<Vec<u8>> {
    let mut wasm = modules::read("hello")?;
    let name = name.as_bytes();
    let length = u8::try_from(name.len() + 1).context("a name of a section is short")?;
    wasm.extend([0, length, length - 1]);
    wasm.extend(name);
    Ok(wasm)
}

/// Annotates a ConfigMap, and waits until its module is warm.
fn want(cluster: &Cluster, repository: &str) -> Result<()> {
    let reference = format!("oci://{REGISTRY}/{repository}:1");
    let object = format!(
        "apiVersion: v1
kind: ConfigMap
metadata:
  name: {repository}
  namespace: {NAMESPACE}
  labels: {{warmstep.dev/prewarm: 'true'}}
  annotations: {{warmstep.dev/prewarm: '{reference}'}}
"
    );
    cluster.kubectl_with(&["apply", "-f", "-"], &object)?;
    examples::until_warm(cluster, &reference)
}

/// An image of one layer: busybox, and what tells it from every other image.
fn push_image(registry: &Registry, unique: &str) -> Result<()> {
    let scratch = tempfile::TempDir::with_prefix("warmstep-image-")?;
    std::fs::create_dir(scratch.path().join("bin"))?;
    std::fs::create_dir(scratch.path().join("tmp"))?;
    std::fs::copy("/bin/busybox", scratch.path().join("bin/busybox"))?;
    std::fs::write(scratch.path().join("unique"), unique)?;
    let output = std::process::Command::new("tar")
        .args(["--directory", &scratch.path().display().to_string(), "--create", "."])
        .output()
        .context("tar")?;
    let layer = output.stdout;
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]}
    });
    let config = Config::new(
        config.to_string().into_bytes(),
        "application/vnd.oci.image.config.v1+json".to_owned(),
        None,
    );
    let layer = ImageLayer::new(layer, "application/vnd.oci.image.layer.v1.tar".to_owned(), None);
    registry.push_layers(unique, "1", config, vec![layer]).map(|_| ())
}

/// The example's fan-out, with containers instead.
fn fan_out_of_containers() -> Result<String> {
    let text = examples::text("fan-out")?;
    let text = text.replace("warmstep:0.1.0", "warmstep.test/shell:cluster");
    let command = format!("[warmstep, run, \"oci://{REGISTRY}/hello:1\", --]");
    Ok(text.replace(&command, "[/bin/busybox, echo]"))
}

/// From the pod's creation to the end of its own container.
fn pod_seconds(cluster: &Cluster, pod: &str) -> Result<f64> {
    let pod = cluster.get(&["-n", NAMESPACE, "pod", pod])?;
    let statuses = pod["status"]["containerStatuses"].as_array().context("no containers")?;
    let main = statuses.iter().find(|status| status["name"] == "main").context("no main")?;
    between(&pod["metadata"]["creationTimestamp"], &main["state"]["terminated"]["finishedAt"])
}

fn workflow_seconds(workflow: &Value) -> Result<f64> {
    between(&workflow["metadata"]["creationTimestamp"], &workflow["status"]["finishedAt"])
}

fn between(from: &Value, to: &Value) -> Result<f64> {
    let from = parse_rfc3339(&text(from)).with_context(|| from.to_string())?;
    let to = parse_rfc3339(&text(to)).with_context(|| to.to_string())?;
    Ok(to.duration_since(from)?.as_secs_f64())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.iter().map(|_| 1.0).sum::<f64>()
}

fn steps(measured: &BTreeMap<(usize, usize), Seconds>) -> Table {
    let mut table = Table::new();
    let heads =
        SETTINGS.iter().flat_map(|(name, _)| [format!("{name}: pod"), format!("{name}: workflow")]);
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(["step".to_owned()].into_iter().chain(heads));
    for (kind, (_, name)) in KINDS.iter().enumerate() {
        let mut row = vec![(*name).to_owned()];
        for setting in 0..SETTINGS.len() {
            let seconds = &measured[&(setting, kind)];
            row.push(format!("{:.1} s", mean(&seconds.pod)));
            row.push(format!("{:.1} s", mean(&seconds.workflow)));
        }
        table.add_row(row);
    }
    aligned(table)
}

fn together(fan_outs: &[f64]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    let names = SETTINGS.iter().map(|(name, _)| (*name).to_owned());
    table.set_header(["50 steps at once".to_owned()].into_iter().chain(names));
    for (kind, name) in ["containers, their image there", "modules, warm"].iter().enumerate() {
        let of = |setting: usize| fan_outs.get(2 * setting + kind).copied().unwrap_or(f64::NAN);
        table.add_row([(*name).to_owned(), format!("{:.0} s", of(0)), format!("{:.0} s", of(1))]);
    }
    aligned(table)
}

fn aligned(mut table: Table) -> Table {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
