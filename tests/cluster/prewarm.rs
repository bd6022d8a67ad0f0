//! Prewarming by annotation, against a real API server with Argo's resources and the agent's own RBAC.
//! There is no node: the agent runs beside it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use warmstep_tests::modules::from_text;
use warmstep_tests::push::sha256;
use warmstep_tests::status::Status;
use warmstep_tests::{Agent, ApiServer, Form, Pushed, Registry, paths};

const SOON: Duration = Duration::from_secs(60);

/// The user that the manifests bind to the agent's rights.
const ACCOUNT: &str = "system:serviceaccount:warmstep:warmstep-agent";

const MARK: &str = "warmstep.dev/prewarm";

/// Says a word and a line break.
fn says(word: &str) -> Vec<u8> {
    let length = word.len() + 1;
    from_text(&format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\{length:02x}\00\00\00")
  (data (i32.const 16) "{word}\n")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    ))
    .unwrap()
}

/// Two modules in a registry, an API server, and who the agent is there.
struct Stand {
    registry: Registry,
    server: ApiServer,
    kubeconfig: PathBuf,
}

impl Stand {
    fn new(flags: &[&str]) -> Self {
        let mut server = ApiServer::builder();
        for flag in flags {
            server = server.flag(*flag);
        }
        let server = server.start().unwrap();
        let kubeconfig = server.kubeconfig(ACCOUNT, "system:authenticated").unwrap();
        server.kubectl(&["create", "namespace", "team"]).unwrap();
        Self { registry: Registry::start().unwrap(), server, kubeconfig }
    }

    fn push(&self, name: &str) -> Pushed {
        self.registry.push(name, "1", Form::Cncf, says(name)).unwrap()
    }

    fn give_rights(&self) {
        let rights = fs::read_to_string(paths::root().join("manifests/rbac.yaml")).unwrap();
        self.server.apply(&rights).unwrap();
    }

    fn agent(&self) -> Agent {
        Agent::builder()
            .registry(&self.registry)
            .setting("tag_ttl = '1s'")
            .tables("[prewarm]\njitter = '0s'\nrecheck = '2s'\n[policy]\nallow = ['127.0.0.1:*']")
            .argument("--kubernetes=true")
            .variable("KUBECONFIG", &self.kubeconfig.display().to_string())
            .variable("NODE_NAME", "node-1")
            .start()
            .unwrap()
    }

    /// Applies an object with the annotation and its label.
    fn apply(&self, mut object: Value, value: &str) {
        object["metadata"]["annotations"] = json!({ MARK: value });
        object["metadata"]["labels"] = json!({ MARK: "true" });
        self.server.apply(&object.to_string()).unwrap();
    }

    /// The notes of the agent's events about an object.
    fn events(&self, namespace: &str, name: &str) -> Vec<String> {
        let fields = format!(
            "--field-selector=reportingComponent=warmstep.dev/agent,involvedObject.name={name}"
        );
        let text = self
            .server
            .kubectl(&["get", "events", "-n", namespace, &fields, "-o", "json"])
            .unwrap();
        let list: Value = serde_json::from_str(&text).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        items.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
    }

    fn until_event(&self, namespace: &str, name: &str) -> Vec<String> {
        let deadline = Instant::now() + SOON;
        loop {
            let events = self.events(namespace, name);
            if !events.is_empty() {
                return events;
            }
            assert!(Instant::now() < deadline, "there is no event about {name}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
           "metadata": {"name": name, "namespace": "team"}})
}

fn template(kind: &str, name: &str, arguments: &[&str]) -> Value {
    let mut object = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": kind,
        "metadata": {"name": name},
        "spec": {"entrypoint": "main", "templates": [{"name": "main", "container": {
            "image": "warmstep", "command": ["/warmstep", "run"], "args": arguments}}]}});
    if kind != "ClusterWorkflowTemplate" {
        object["metadata"]["namespace"] = json!("team");
    }
    if kind == "CronWorkflow" {
        object["spec"] = json!({"schedules": ["0 0 1 1 *"], "workflowSpec": object["spec"]});
    }
    object
}

fn is_warm(status: &Status, module: &str) -> bool {
    status.prewarm.state(module) == "warm"
}

fn is_there(agent: &Agent, digest: &str) -> bool {
    let listed = agent.ask(["ls", "--output", "json"]).unwrap();
    String::from_utf8_lossy(&listed.stdout).contains(digest)
}

/// What is pinned stays; the rest goes.
fn collect(agent: &Agent) {
    let gone = agent.ask(["gc", "--to", "0"]).unwrap();
    assert!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));
}

#[test]
fn every_kind_of_object_warms_what_it_names_and_lets_it_go_again() {
    let stand = Stand::new(&[]);
    stand.server.install_argo_crds().unwrap();
    stand.give_rights();
    let names = ["a", "b", "c", "d", "e"];
    let [a, b, c, d, e] = names.map(|name| stand.push(name));
    let mut agent = stand.agent();
    agent.until(SOON, |status| status.prewarm.kubernetes == "watching").unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let resident = agent.program().unwrap().resident().unwrap();
    assert!(resident < 24 << 20, "five watches and nothing else: {resident} bytes");
    let before = agent.program().unwrap().processor_time().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let used = agent.program().unwrap().processor_time().unwrap() - before;
    assert!(used < Duration::from_millis(200), "in two seconds without work: {used:?}");

    stand.apply(config_map("list"), &format!("{},{}", a.reference, b.pinned));
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    stand.apply(namespace, &c.reference);
    let run = |module: &str| vec!["--memory=64Mi".to_owned(), module.to_owned(), "--".to_owned()];
    for (kind, module) in [
        ("WorkflowTemplate", &d.reference),
        ("CronWorkflow", &e.reference),
        ("ClusterWorkflowTemplate", &a.reference),
    ] {
        let arguments = run(module);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        stand.apply(template(kind, "auto", &arguments), "auto");
    }
    let wanted = [&a.reference, &b.pinned, &c.reference, &d.reference, &e.reference];
    // One of the modules is named twice: all may be warm before all objects were seen.
    let seen = |status: &Status| {
        status.prewarm.objects == 5 && wanted.iter().all(|module| is_warm(status, module))
    };
    let status = agent.until(SOON, seen).unwrap();
    assert_eq!(status.prewarm.kubernetes, "watching");
    let by = |module: &str| {
        let found = status.prewarm.modules.iter().find(|one| one.module == module);
        found.unwrap().wanted_by.clone()
    };
    assert_eq!(by(&a.reference), ["ClusterWorkflowTemplate auto", "ConfigMap team/list"]);
    assert_eq!(by(&e.reference), ["CronWorkflow team/auto"]);
    // A step finds all of it done.
    let ended = agent.step(&d.reference).run().unwrap();
    assert_eq!((ended.code, ended.out().as_str()), (0, "d\n"), "{}", ended.err());
    assert_eq!(agent.last_record(1).unwrap().cache, "hit");
    let text = String::from_utf8(agent.ask(["status"]).unwrap().stdout).unwrap();
    assert!(text.contains("prewarming: 5 modules wanted by 5 objects, 5 warm"), "{text}");
    // What is pinned is not evicted, and only that.
    collect(&agent);
    assert!([&a, &b, &c, &d, &e].iter().all(|pushed| is_there(&agent, &pushed.digest)));

    // The annotation moves on.
    stand.apply(config_map("list"), &c.reference);
    agent.until(SOON, |status| status.prewarm.modules.len() == 4).unwrap();
    collect(&agent);
    assert!(!is_there(&agent, &b.digest) && is_there(&agent, &a.digest));
    // So does a tag.
    let moved = stand.registry.push("c", "1", Form::Cncf, says("moved")).unwrap();
    let is_moved = |status: &Status| {
        status.prewarm.modules.iter().any(|one| one.digest.as_ref() == Some(&moved.digest))
    };
    agent.until(SOON, is_moved).unwrap();
    collect(&agent);
    assert!(is_there(&agent, &moved.digest) && !is_there(&agent, &c.digest));
    // An object that is deleted wants nothing; nor does one without its label.
    stand.server.kubectl(&["delete", "workflowtemplate", "-n", "team", "auto"]).unwrap();
    let unlabel = format!("{MARK}-");
    stand.server.kubectl(&["label", "cronworkflow", "-n", "team", "auto", &unlabel]).unwrap();
    agent.until(SOON, |status| status.prewarm.modules.len() == 2).unwrap();
}

#[test]
fn a_failure_is_told_once_on_the_object_and_mended_when_it_can_be() {
    let stand = Stand::new(&[]);
    stand.server.install_argo_crds().unwrap();
    stand.give_rights();
    let good = stand.push("good");
    let missing = format!("oci://{}/late:1", stand.registry.host());
    let mut agent = stand.agent();
    stand.apply(config_map("both"), &format!("{} {missing} nonsense", good.reference));
    let parameter = ["oci://r.example/a:{{workflow.parameters.tag}}"];
    stand.apply(template("WorkflowTemplate", "auto", &parameter), "auto");
    stand.apply(config_map("auto"), "auto");
    let forbidden = "oci://forbidden.example/x:1";
    stand.apply(config_map("forbidden"), forbidden);
    let status = agent
        .until(SOON, |status| {
            is_warm(status, &good.reference)
                && status.prewarm.state(&missing) == "failed"
                && status.prewarm.state(forbidden) == "failed"
                && status.prewarm.problems.len() == 3
        })
        .unwrap();
    let problems: Vec<&str> =
        status.prewarm.problems.iter().map(|problem| problem.reason.as_str()).collect();
    assert!(problems.iter().any(|reason| reason.contains("a parameter has no value")));
    assert!(problems.iter().any(|reason| reason.contains("a ConfigMap has no templates")));
    assert!(problems.iter().any(|reason| reason.starts_with("nonsense: a module is written")));
    stand.until_event("team", "both");
    assert!(stand.until_event("team", "forbidden")[0].contains("policy.allow"));
    // Two more attempts, and another start: nothing is told twice.
    std::thread::sleep(Duration::from_secs(12));
    agent.kill().unwrap();
    agent.start().unwrap();
    agent.until(SOON, |status| status.prewarm.state(&missing) == "failed").unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let mut events = stand.events("team", "both");
    events.sort();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[0].starts_with("node node-1: nonsense: "), "{events:?}");
    assert!(events[1].starts_with(&format!("node node-1: {missing}: ")), "{events:?}");
    assert_eq!(stand.events("team", "auto").len(), 2, "one for the template, one for the map");
    let said = format!("{missing}: ");
    let log = agent.log().unwrap();
    let lines = log.lines().filter(|line| line.contains("not everything") && line.contains(&said));
    assert!(lines.count() <= 2, "once a start: {log}");
    // It comes late, and then it is warm.
    stand.push("late");
    agent.until(SOON, |status| is_warm(status, &missing)).unwrap();
}

/// The API server is killed, and the agent too while it is away: no step is stopped, and nothing is
/// forgotten.
#[test]
fn the_api_server_s_absence_stops_no_step_and_nothing_is_forgotten() {
    let mut stand = Stand::new(&[]);
    stand.server.install_argo_crds().unwrap();
    stand.give_rights();
    let [kept, dropped, later] = ["kept", "dropped", "later"].map(|name| stand.push(name));
    let mut agent = stand.agent();
    stand.apply(config_map("one"), &kept.reference);
    stand.apply(config_map("two"), &dropped.reference);
    agent
        .until(SOON, |status| {
            is_warm(status, &kept.reference) && is_warm(status, &dropped.reference)
        })
        .unwrap();
    let run = |agent: &Agent, pushed: &Pushed, word: &str| {
        let ended = agent.step(&pushed.reference).run().unwrap();
        assert_eq!((ended.code, ended.out()), (0, format!("{word}\n")), "{}", ended.err());
    };
    stand.server.kill().unwrap();
    run(&agent, &kept, "kept");
    run(&agent, &later, "later");
    agent.until(SOON, |status| status.prewarm.kubernetes.contains("is away")).unwrap();
    // The agent starts anew without an API server: what was pinned still is.
    agent.kill().unwrap();
    agent.start().unwrap();
    let status = agent.status().unwrap();
    assert_eq!(status.prewarm.objects, 2);
    // While it is compiled again, `later` is in use.
    agent.until(SOON, |status| !status.modules.contains_key("baseline")).unwrap();
    collect(&agent);
    assert!(is_there(&agent, &kept.digest) && is_there(&agent, &dropped.digest));
    assert!(!is_there(&agent, &later.digest));
    run(&agent, &kept, "kept");
    assert_eq!(agent.last_record(1).unwrap().cache, "hit");
    agent.until(SOON, |status| status.prewarm.kubernetes.contains("is away")).unwrap();
    // It comes back, with news: one object goes, another comes.
    stand.server.start().unwrap();
    stand.server.kubectl(&["delete", "configmap", "-n", "team", "two"]).unwrap();
    stand.apply(config_map("three"), &later.reference);
    let wanted = |status: &Status| {
        is_warm(status, &later.reference)
            && is_warm(status, &kept.reference)
            && status.prewarm.modules.len() == 2
    };
    let status = agent.until(SOON, wanted).unwrap();
    assert_eq!(status.prewarm.kubernetes, "watching");
    let log = agent.log().unwrap();
    let count = |line: &str| log.lines().filter(|found| found.contains(line)).count();
    assert_eq!(count("the API server is away"), 2, "once for each of the two agents: {log}");
    assert_eq!(count("the API server is back"), 1, "{log}");
    // Once more, under watches that stand.
    stand.server.kill().unwrap();
    stand.server.start().unwrap();
    stand.server.kubectl(&["delete", "configmap", "-n", "team", "three"]).unwrap();
    agent.until(SOON, |status| status.prewarm.modules.len() == 1).unwrap();
}

/// Without rights, without Argo, without streaming lists: a line each, and nothing else breaks.
#[test]
fn what_the_api_server_lacks_is_said_once_and_noticed_when_it_comes() {
    let stand = Stand::new(&["--feature-gates=WatchList=false"]);
    let pushed = stand.push("x");
    stand.apply(config_map("list"), &pushed.reference);
    let agent = stand.agent();
    std::thread::sleep(Duration::from_secs(20));
    let log = agent.log().unwrap();
    let count = |line: &str| log.lines().filter(|found| found.contains(line)).count();
    assert_eq!(count("does not let this kind be watched"), 5, "{log}");
    stand.give_rights();
    agent.until(SOON, |status| is_warm(status, &pushed.reference)).unwrap();
    let log = agent.log().unwrap();
    assert!(log.contains("is watched now kind=\"ConfigMap\""), "{log}");
    // Argo comes once its absence was seen, whenever the agent looked.
    let lacks = |log: &str| log.lines().filter(|line| line.contains("has no such kind")).count();
    let deadline = Instant::now() + SOON;
    while lacks(&agent.log().unwrap()) == 0 {
        assert!(Instant::now() < deadline, "{}", agent.log().unwrap());
        std::thread::sleep(Duration::from_millis(200));
    }
    stand.server.install_argo_crds().unwrap();
    stand.apply(template("WorkflowTemplate", "auto", &[&pushed.pinned]), "auto");
    agent.until(SOON * 2, |status| is_warm(status, &pushed.pinned)).unwrap();
    let log = agent.log().unwrap();
    assert!(lacks(&log) <= 3, "once for each of Argo's kinds: {log}");
    stand.server.kubectl(&["delete", "configmap", "-n", "team", "list"]).unwrap();
    agent.until(SOON, |status| status.prewarm.modules.len() == 1).unwrap();
    assert_eq!(sha256(&says("x")), pushed.digest);
}
