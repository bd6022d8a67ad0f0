//! What changes while the agent runs: its configuration, as a ConfigMap changes, and its own modules.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use warmstep_tests::push::sha256;
use warmstep_tests::status::Status;
use warmstep_tests::{Agent, Form, Registry};

use crate::guests;

const SOON: Duration = Duration::from_secs(20);

/// What the kubelet does with a volume (AtomicWriter): the files of a version in a directory of their
/// own, which the link `..data` leads to, and a rename over that link.
fn publish(volume: &Path, version: &str, files: &[(&str, &[u8])]) {
    let directory = volume.join(format!("..{version}"));
    fs::create_dir(&directory).unwrap();
    for (name, text) in files {
        fs::write(directory.join(name), text).unwrap();
    }
    symlink(format!("..{version}"), volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    for (name, _) in files {
        if fs::symlink_metadata(volume.join(name)).is_err() {
            symlink(format!("..data/{name}"), volume.join(name)).unwrap();
        }
    }
}

/// An agent whose configuration is a ConfigMap, in its first version.
fn agent_of_a_configmap(text: &str) -> Agent {
    let mut agent = Agent::builder().start().unwrap();
    agent.stop().unwrap();
    fs::remove_file(agent.scratch().join("agent.toml")).unwrap();
    publish(agent.scratch(), "1", &[("agent.toml", text.as_bytes())]);
    agent.start().unwrap();
    agent
}

fn until_logged(agent: &Agent, line: &str) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        let log = agent.log().unwrap();
        if let Some(found) = log.lines().find(|found| found.contains(line)) {
            return found.to_owned();
        }
        assert!(Instant::now() < deadline, "no line says {line:?}: {log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_configmap_that_is_exchanged_takes_effect_at_once() {
    let registry = Registry::start().unwrap();
    let pushed = registry.push("x", "1", Form::Cncf, guests::says("x")).unwrap();
    let agent = agent_of_a_configmap("");
    let ended = agent.step(&pushed.reference).run().unwrap();
    assert!(ended.err().contains("plain_http"), "{}", ended.err());
    let reachable = format!("[registry.\"{}\"]\nplain_http = true\n", registry.host());
    publish(agent.scratch(), "2", &[("agent.toml", reachable.as_bytes())]);
    let said = until_logged(&agent, "is in force");
    assert!(said.contains("settings=\"registry\""), "{said}");
    assert_eq!(agent.step(&pushed.reference).run().unwrap().out(), "x\n");
    let strict =
        format!("[policy]\nallow = ['nobody/*']\n[limits]\nmemory_max = '1GiB'\n{reachable}");
    publish(agent.scratch(), "3", &[("agent.toml", strict.as_bytes())]);
    until_logged(&agent, "settings=\"limits, policy\"");
    let ended = agent.step(&pushed.reference).run().unwrap();
    assert_eq!(ended.code, 126, "{}", ended.err());
    assert!(ended.err().contains("policy.allow"), "{}", ended.err());
    let ended = agent.step(&pushed.digest).flag("--memory").flag("2Gi").run().unwrap();
    assert!(ended.err().contains("limits.memory_max"), "{}", ended.err());
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_and_the_old_one_stays() {
    let agent = agent_of_a_configmap("[policy]\nfiles = false\n");
    let module = agent.scratch().join("m.wasm");
    fs::write(&module, guests::says("m")).unwrap();
    let refused = || {
        let ended = agent.step(&module).run().unwrap();
        assert!(ended.err().contains("policy.files"), "{}", ended.err());
    };
    refused();
    for (version, text, said) in [
        ("2", "[policy]\nfiles = true\nfilse = true\n", "line 3: unknown field `filse`"),
        ("3", "[limits]\nmemory = '64GiB'\n", "limits.memory must not be more"),
        ("4", "[registry.'http://x']\n", "write host or host:port"),
    ] {
        publish(agent.scratch(), version, &[("agent.toml", text.as_bytes())]);
        let line = until_logged(&agent, said);
        assert!(line.contains("the configuration is refused: the old one stays"), "{line}");
        refused();
    }
    // What only a start can change is said, and the rest of the file counts.
    let text = "socket = '/elsewhere'\nlog_format = 'json'\n[policy]\nfiles = true\n";
    publish(agent.scratch(), "5", &[("agent.toml", text.as_bytes())]);
    let line = until_logged(&agent, "wait for the agent's next start");
    // The socket is a flag of this agent, and flags win.
    assert!(line.contains("settings=\"log_format\""), "{line}");
    assert_eq!(agent.step(&module).run().unwrap().out(), "m\n");
    let log = agent.log().unwrap();
    assert_eq!(log.matches("is refused: the old one stays").count(), 3, "a line each: {log}");
}

#[test]
fn modules_of_the_node_s_own_are_warm_while_their_files_are_there() {
    let volume = tempfile::tempdir().unwrap();
    let (first, second) = (guests::says("first"), guests::says("second"));
    publish(volume.path(), "1", &[("a.wasm", &first), ("readme.txt", b"")]);
    let mut agent = Agent::builder()
        .setting(&format!("modules_dir = '{}'", volume.path().display()))
        .tables("[prewarm]\njitter = '0s'")
        .start()
        .unwrap();
    let holds = |digests: &[String], status: &Status| {
        let warm = status.prewarm.modules.iter().filter(|one| one.state == "warm");
        let mut found: Vec<&str> = warm.filter_map(|one| one.digest.as_deref()).collect();
        found.sort_unstable();
        let mut wanted: Vec<&str> = digests.iter().map(String::as_str).collect();
        wanted.sort_unstable();
        status.prewarm.modules.len() == wanted.len() && found == wanted
    };
    let [one, two] = [sha256(&first), sha256(&second)];
    agent.until(SOON, |status| holds(std::slice::from_ref(&one), status)).unwrap();
    let ended = agent.step(&one).run().unwrap();
    assert_eq!(ended.out(), "first\n", "{}", ended.err());
    assert_eq!(agent.last_record(1).unwrap().cache, "hit");
    // Another file beside it, then the first is exchanged for something that is no module.
    fs::write(volume.path().join("b.wasm"), &second).unwrap();
    agent.until(SOON, |status| holds(&[one.clone(), two.clone()], status)).unwrap();
    publish(volume.path(), "2", &[("a.wasm", b"nonsense")]);
    let status = agent
        .until(SOON, |status| status.prewarm.modules.iter().any(|one| one.state == "failed"))
        .unwrap();
    let reason = status.prewarm.modules[0].reason.clone().unwrap();
    assert!(reason.contains("no WebAssembly module"), "{reason}");
    // What goes is let go, also over a restart.
    fs::remove_file(volume.path().join("a.wasm")).unwrap();
    agent.until(SOON, |status| holds(std::slice::from_ref(&two), status)).unwrap();
    agent.kill().unwrap();
    agent.start().unwrap();
    agent.until(SOON, |status| holds(std::slice::from_ref(&two), status)).unwrap();
    assert!(agent.ask(["gc", "--to", "0"]).unwrap().status.success());
    let listed = agent.ask(["ls", "--output", "json"]).unwrap().stdout;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    assert!(listed.contains(&two) && !listed.contains(&one), "{listed}");
    fs::remove_file(volume.path().join("b.wasm")).unwrap();
    agent.until(SOON, |status| status.prewarm.modules.is_empty()).unwrap();
}
