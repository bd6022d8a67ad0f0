//! How steps end that would not: memory, deadlines, and the two ways to shut a workflow down.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use warmstep_tests::cluster::Cluster;

use crate::Test;
use crate::steps::script;
use crate::workflow::{NAMESPACE, Workflow, one_step, pod_name, text};

pub(crate) const TESTS: &[Test] = &[
    ("limits::a_module_over_its_memory_ends_with_a_message_and_its_outputs", module_memory),
    ("limits::a_pod_over_its_memory_is_killed_alone", pod_memory),
    ("limits::a_deadline_ends_a_step", deadline),
    ("limits::stop_and_terminate_end_a_step", shutdown),
];

/// Longer than any step of these tests may take.
const ENDLESS: &str = "print('started', flush=True)\nwhile True: pass";

/// How long a step may take to end once it is told to: Argo gives it 30 s before it kills.
const END: Duration = Duration::from_secs(25);

fn module_memory(cluster: &Cluster) -> Result<()> {
    let text_of_workflow = one_step(&format!(
        "outputs:
  parameters: [{{name: before, valueFrom: {{path: /tmp/out/before}}}}]
{}
  resources: {{limits: {{memory: 256Mi}}}}
",
        script(
            "open('/tmp/out/before', 'w').write('saved')\nhoard = []\nwhile True: hoard.append(bytearray(1 << 20))"
        )
    ));
    let workflow = Workflow::create(cluster, &text_of_workflow)?;
    let ended = workflow.ended()?;
    ensure!(ended.phase() == "Failed", "{}", ended.summary());
    ensure!(ended.parameter("step", "before")? == "saved", "{}", ended.summary());
    let said = workflow.log(&pod_name(ended.node("step")?))?;
    // Python turns a memory that does not grow into an exception of its own.
    ensure!(said.contains("MemoryError"), "{said}");
    Ok(())
}

fn pod_memory(cluster: &Cluster) -> Result<()> {
    let greedy = script("hoard = []\nwhile True: hoard.append(bytearray(b'x' * (1 << 20)))")
        .replace("warmstep, run,", "warmstep, run, --memory=2Gi,");
    let text_of_workflow =
        one_step(&format!("{greedy}\n  resources: {{limits: {{memory: 128Mi}}}}\n"));
    let workflow = Workflow::create(cluster, &text_of_workflow)?;
    let ended = workflow.ended()?;
    let message = text(&ended.node("step")?["message"]);
    ensure!(message.contains("OOMKilled") || message.contains("137"), "{}", ended.summary());
    Ok(())
}

fn deadline(cluster: &Cluster) -> Result<()> {
    let workflow = Workflow::create(
        cluster,
        &one_step(&format!("activeDeadlineSeconds: 20\n{}", script(ENDLESS))),
    )?;
    let pod = workflow.name.clone();
    until_started(cluster, &workflow)?;
    let before = Instant::now();
    let ended = workflow.ended()?;
    ensure!(ended.phase() == "Failed", "{}", ended.summary());
    let message = text(&ended.node("step")?["message"]);
    ensure!(message.contains("deadline"), "{message}: {}", ended.summary());
    // Argo's controller looks again when the deadline is over, and the module ends at once.
    until_main_ended(cluster, &pod)?;
    ensure!(before.elapsed() < END * 2, "the step ended after {:?}", before.elapsed());
    Ok(())
}

/// Waits until the module says so.
fn until_started(cluster: &Cluster, workflow: &Workflow<'_>) -> Result<()> {
    cluster.until("the step starts", Duration::from_secs(90), |_| {
        let log = workflow.log(&workflow.name);
        Ok(log.is_ok_and(|log| log.contains("started")).then_some(()))
    })
}

/// Waits until the signal has ended the module, and nobody had to kill it after Argo's 30 s.
fn until_main_ended(cluster: &Cluster, pod: &str) -> Result<()> {
    cluster.until("the pod ends", END, |cluster| {
        let pod = cluster.get(&["-n", NAMESPACE, "pod", pod])?;
        let main = pod["status"]["containerStatuses"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|status| status["name"] == "main");
        Ok(main.and_then(|main| main["state"].get("terminated")).map(|_| ()))
    })
}

fn shutdown(cluster: &Cluster) -> Result<()> {
    for way in ["Stop", "Terminate"] {
        let workflow = Workflow::create(cluster, &one_step(&script(ENDLESS)))?;
        let pod = workflow.name.clone();
        until_started(cluster, &workflow)?;
        let before = Instant::now();
        workflow.patch(&format!("{{\"spec\":{{\"shutdown\":\"{way}\"}}}}"))?;
        let ended = workflow.ended_within(END * 2)?;
        ensure!(ended.phase() == "Failed", "{way}: {}", ended.summary());
        until_main_ended(cluster, &pod)?;
        ensure!(before.elapsed() < END * 2, "{way} took {:?}", before.elapsed());
    }
    Ok(())
}
