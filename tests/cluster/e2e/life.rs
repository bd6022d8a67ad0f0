//! Restarts, upgrades and outages: what becomes of the steps that run, and of those that come
//! meanwhile. Each test has the cluster for itself.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use warmstep_tests::cluster::{Cluster, REGISTRY, REGISTRY_ADDRESS};
use warmstep_tests::{Form, Registry, install, modules};

use crate::Test;
use crate::workflow::{NAMESPACE, Workflow, text};

pub(crate) const TESTS: &[Test] = &[
    ("life::an_upgrade_harms_no_step", upgrade),
    ("life::a_killed_agent_harms_no_step", killed_agent),
    ("life::a_restarted_kubelet_harms_no_step", kubelet),
    ("life::without_the_api_server_steps_go_on", api_server),
];

/// How many steps run through an upgrade, and how many come meanwhile.
const STEPS: usize = 20;

/// How long a long step takes: longer than the rollout.
const LONG: Duration = Duration::from_secs(45);

/// How long the API server is away, unless `WARMSTEP_OUTAGE_SECONDS` says otherwise.
const OUTAGE: Duration = Duration::from_secs(30);

/// Sleeps as long as it is told to, and ends with the number that is its argument.
fn sleeper(time: Duration) -> Result<Vec<u8>> {
    let nanoseconds = time.as_nanos();
    modules::from_text(&format!(
        r#"(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (func (export "_start") (local $at i32) (local $code i32)
    (drop (call $args_sizes (i32.const 0) (i32.const 4)))
    (drop (call $args (i32.const 8) (i32.const 1024)))
    ;; the second argument's digits
    (local.set $at (i32.load (i32.const 12)))
    (block $end (loop $digits
      (br_if $end (i32.eqz (i32.load8_u (local.get $at))))
      (local.set $code (i32.add (i32.mul (local.get $code) (i32.const 10))
        (i32.sub (i32.load8_u (local.get $at)) (i32.const 48))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $digits)))
    ;; a subscription: tag 0 (clock), clock 1 (monotonic), timeout
    (i32.store (i32.const 65552) (i32.const 1))
    (i64.store (i32.const 65560) (i64.const {nanoseconds}))
    (drop (call $poll (i32.const 65536) (i32.const 65700) (i32.const 1) (i32.const 65800)))
    (call $exit (local.get $code))))"#
    ))
}

/// A workflow whose steps run a sleeper, each with a code of its own from `first` on.
fn sleepers(name: &str, first: usize, steps: usize) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata:
  generateName: {name}-
spec:
  entrypoint: all
  templates:
    - name: all
      failFast: false
      steps:
        - - name: sleep
            template: sleep
            continueOn: {{failed: true}}
            arguments: {{parameters: [{{name: code, value: '{{{{item}}}}'}}]}}
            withSequence: {{start: '{first}', count: '{steps}'}}
    - name: sleep
      inputs: {{parameters: [{{name: code}}]}}
      container:
        image: warmstep:0.1.0
        command: [warmstep, run, 'oci://{REGISTRY}/{name}:1', --]
        args: ['{{{{inputs.parameters.code}}}}']
"
    )
}

/// Pushes both sleepers.
fn push() -> Result<()> {
    let registry = Registry::at(REGISTRY_ADDRESS);
    for (name, time) in [("long", LONG), ("short", Duration::from_millis(100))] {
        registry.push(name, "1", Form::Cncf, sleeper(time)?)?;
    }
    Ok(())
}

/// Starts so many long steps, and waits until all of them run.
fn started<'a>(cluster: &'a Cluster, steps: usize) -> Result<Workflow<'a>> {
    push()?;
    let workflow = Workflow::create(cluster, &sleepers("long", 10, steps))?;
    let selector = format!("workflows.argoproj.io/workflow={}", workflow.name);
    let running = |cluster: &Cluster| {
        let pods = cluster.get(&["-n", NAMESPACE, "pods", "-l", &selector])?;
        let pods = pods["items"].as_array().map_or(0, |pods| {
            pods.iter().filter(|pod| pod["status"]["phase"] == "Running").count()
        });
        Ok((pods == steps).then_some(()))
    };
    cluster.until("the long steps run", Duration::from_secs(180), running)?;
    Ok(workflow)
}

/// Checks that every step ended with its own code.
fn each_with_its_own_code(workflow: &Workflow<'_>, first: usize, steps: usize) -> Result<()> {
    let ended = workflow.ended_within(Duration::from_secs(400))?;
    let mut codes: Vec<String> = ended
        .nodes()
        .filter(|node| node["type"] == "Pod")
        .map(|node| text(&node["outputs"]["exitCode"]))
        .collect();
    codes.sort();
    let expected: Vec<String> = (first..first + steps).map(|code| code.to_string()).collect();
    if codes != expected {
        bail!("{codes:?} instead of {expected:?}: {}", ended.summary());
    }
    Ok(())
}

fn upgrade(cluster: &Cluster) -> Result<()> {
    let long = started(cluster, STEPS)?;
    cluster.kubectl(&["rollout", "restart", "-n", "warmstep", "daemonset/warmstep-agent"])?;
    let short = Workflow::create(cluster, &sleepers("short", 10, STEPS))?;
    install::rolled_out(cluster, "warmstep", "daemonset/warmstep-agent")?;
    each_with_its_own_code(&short, 10, STEPS)?;
    each_with_its_own_code(&long, 10, STEPS)
}

fn killed_agent(cluster: &Cluster) -> Result<()> {
    let long = started(cluster, 2)?;
    let restarts = || -> Result<u64> {
        let pods = cluster.get(&["-n", "warmstep", "pods"])?;
        let statuses = pods["items"][0]["status"]["containerStatuses"].as_array().cloned();
        let agent = statuses.into_iter().flatten().find(|status| status["name"] == "agent");
        Ok(agent.and_then(|agent| agent["restartCount"].as_u64()).unwrap_or_default())
    };
    let before = restarts()?;
    cluster.control("kill warmstep-agent")?;
    let short = Workflow::create(cluster, &sleepers("short", 10, 2))?;
    each_with_its_own_code(&short, 10, 2)?;
    ensure!(restarts()? > before, "the agent was not restarted");
    each_with_its_own_code(&long, 10, 2)
}

fn kubelet(cluster: &Cluster) -> Result<()> {
    let long = started(cluster, 2)?;
    cluster.control("stop kubelet")?;
    cluster.control("start kubelet")?;
    let short = Workflow::create(cluster, &sleepers("short", 10, 2))?;
    each_with_its_own_code(&short, 10, 2)?;
    each_with_its_own_code(&long, 10, 2)
}

fn api_server(cluster: &Cluster) -> Result<()> {
    let outage = std::env::var("WARMSTEP_OUTAGE_SECONDS").ok();
    let outage = outage.and_then(|text| text.parse().ok()).map_or(OUTAGE, Duration::from_secs);
    let long = started(cluster, 2)?;
    let before = Instant::now();
    cluster.control("stop kube-apiserver")?;
    std::thread::sleep(outage);
    cluster.control("start kube-apiserver")?;
    let away = before.elapsed();
    ensure!(away >= outage, "it was away for {away:?}");
    let short = Workflow::create(cluster, &sleepers("short", 10, 2))?;
    each_with_its_own_code(&short, 10, 2)?;
    each_with_its_own_code(&long, 10, 2)
}
