//! What a step of a workflow may be and do: outputs, retries, users, what it is granted.

use anyhow::{Result, ensure};
use warmstep_tests::cluster::Cluster;

use crate::Test;
use crate::workflow::{Workflow, indented, one_step, text};

pub(crate) const TESTS: &[Test] = &[
    ("steps::outputs_are_saved_whatever_the_exit_code", outputs),
    ("steps::retries_follow_the_exit_code", retries),
    ("steps::nothing_is_granted_that_is_not_declared", grants),
    ("steps::any_user_and_a_read_only_root", any_user),
    ("steps::a_refusal_says_why", refusal),
];

/// The head of a Python script template.
pub(crate) const PYTHON: &str = r#"image: warmstep-python:0.1.0
command: [warmstep, run, "--dir=/usr/local/lib:/usr/local/lib:ro", "oci://registry.warmstep.test/python:3.11", --]
"#;

/// A script template's text.
pub(crate) fn script(source: &str) -> String {
    format!("script:\n{}\n  source: |\n{}", indented(PYTHON, 2), indented(source, 4))
}

fn outputs(cluster: &Cluster) -> Result<()> {
    let text = one_step(&format!(
        "outputs:
  parameters: [{{name: answer, valueFrom: {{path: /tmp/out/answer}}}}]
  artifacts: [{{name: all, path: /tmp/out, archive: {{none: {{}}}}, s3: {{key: outputs-test}}}}]
{}",
        script(
            "open('/tmp/out/answer', 'w').write('42')\nopen('/tmp/out/more', 'w').write('x')\nraise SystemExit(3)"
        )
    ));
    let workflow = Workflow::create(cluster, &text)?;
    let ended = workflow.ended()?;
    ensure!(ended.phase() == "Failed", "{}", ended.summary());
    ended.exit_code("step", "3")?;
    ensure!(ended.parameter("step", "answer")? == "42", "{}", ended.summary());
    let artifacts = &ended.node("step")?["outputs"]["artifacts"];
    ensure!(artifacts.to_string().contains("outputs-test"), "{artifacts}");
    Ok(())
}

fn retries(cluster: &Cluster) -> Result<()> {
    for (code, attempts) in [("3", 2), ("4", 1)] {
        let text = one_step(&format!(
            "retryStrategy: {{limit: 1, expression: \"lastRetry.exitCode == '3'\"}}\n{}",
            script(&format!("raise SystemExit({code})"))
        ));
        let workflow = Workflow::create(cluster, &text)?;
        let ended = workflow.ended()?;
        ensure!(ended.phase() == "Failed", "{}", ended.summary());
        let pods = ended.nodes().filter(|node| node["type"] == "Pod").count();
        ensure!(pods == attempts, "exit code {code}: {pods} attempts: {}", ended.summary());
    }
    Ok(())
}

fn grants(cluster: &Cluster) -> Result<()> {
    // Everything that a pod may have beside what the template declares: a token, a volume, a secret
    // in its environment.
    let source = r"import os, socket
def tried(what, attempt):
    try:
        print(what, attempt() or 'nothing')
    except Exception as error:
        print(what, 'refused')
tried('token', lambda: open('/var/run/secrets/kubernetes.io/serviceaccount/token').read())
tried('etc', lambda: os.listdir('/etc'))
tried('volume', lambda: os.listdir('/other'))
tried('template', lambda: open('/var/run/argo/template').read())
tried('socket', lambda: os.stat('/run/warmstep/agent.sock'))
tried('write to the input', lambda: open('/in/page', 'w').write('x'))
tried('beside the input', lambda: open('/in/more', 'w').write('x'))
tried('beside the output', lambda: open('/tmp/out/more', 'w').write('x'))
tried('network', lambda: socket.create_connection(('10.96.0.1', 443), 3))
print('environment', sorted(name for name in os.environ))
print('input', open('/in/page').read())
open('/tmp/out/page', 'w').write('written')
";
    let text = one_step(&format!(
        "volumes: [{{name: other, emptyDir: {{}}}}]
inputs:
  artifacts: [{{name: page, path: /in/page, raw: {{data: a page}}}}]
outputs:
  parameters: [{{name: page, valueFrom: {{path: /tmp/out/page}}}}]
{}
  volumeMounts: [{{name: other, mountPath: /other}}]
  env: [{{name: GRANTED, value: 'yes'}}]
",
        script(source)
    ));
    let workflow = Workflow::create(cluster, &text)?;
    let ended = workflow.succeeded()?;
    let printed = workflow.lines(&ended)?;
    let expected = "step: token refused
step: etc refused
step: volume refused
step: template refused
step: socket refused
step: write to the input refused
step: beside the input refused
step: beside the output refused
step: network refused
step: environment ['GRANTED']
step: input a page
";
    ensure!(printed == expected, "it could\n{printed}");
    ensure!(ended.parameter("step", "page")? == "written", "{}", ended.summary());
    Ok(())
}

fn any_user(cluster: &Cluster) -> Result<()> {
    let text = one_step(
        "securityContext: {runAsUser: 12345, runAsGroup: 12345, runAsNonRoot: true, fsGroup: 12345}
volumes: [{name: out, emptyDir: {}}]
outputs:
  parameters: [{name: page, valueFrom: {path: /out/page.html}}]
inputs:
  artifacts: [{name: page, path: /in/page.md, raw: {data: '# Title'}}]
container:
  image: warmstep:0.1.0
  command: [warmstep, run, 'oci://registry.warmstep.test/markdown:1', --, /in/page.md, /out/page.html]
  volumeMounts: [{name: out, mountPath: /out}]
  securityContext:
    readOnlyRootFilesystem: true
    allowPrivilegeEscalation: false
    capabilities: {drop: [ALL]}
    seccompProfile: {type: RuntimeDefault}
",
    );
    let workflow = Workflow::create(cluster, &text)?;
    let ended = workflow.succeeded()?;
    let page = ended.parameter("step", "page")?;
    ensure!(page.contains("<h1>Title</h1>"), "{page}");
    Ok(())
}

fn refusal(cluster: &Cluster) -> Result<()> {
    let text_of = |module: &str| {
        one_step(&format!(
            "container: {{image: 'warmstep:0.1.0', command: [warmstep, run, '{module}']}}\n"
        ))
    };
    for (module, code, said) in [
        ("oci://registry.warmstep.test/nothing:1", "127", "nothing:1"),
        ("hello:1", "127", "hello:1"),
    ] {
        let workflow = Workflow::create(cluster, &text_of(module))?;
        let ended = workflow.ended()?;
        ended.exit_code("step", code)?;
        // The last line of a step that could not run is its node's message.
        let message = text(&ended.node("step")?["message"]);
        ensure!(message.contains(said), "{module}: {message:?}");
    }
    Ok(())
}
