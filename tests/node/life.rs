//! Start, stop, restart: a step outlives the agent, and the agent outlives any step.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use warmstep_tests::{Agent, Form, Registry};

use crate::guests;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_second_agent_on_the_same_cache_says_why_it_ends() {
    let agent = Agent::builder().start().unwrap();
    let output = agent.command().unwrap().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another agent uses the cache"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(agent.status().is_ok());
}

#[test]
fn a_second_agent_on_the_same_socket_says_why_it_ends() {
    let agent = Agent::builder().start().unwrap();
    let mut command = agent.command().unwrap();
    command.arg("--cache").arg(agent.scratch().join("other"));
    // The flag is given twice: clap says so, so the configuration names the other cache instead.
    let mut second = std::process::Command::new(command.get_program());
    second.env_clear().args(["serve", "--socket"]).arg(agent.socket());
    second.arg("--cache").arg(agent.scratch().join("other"));
    let output = second.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another agent listens on"), "{said}");
}

#[test]
fn a_second_run_is_a_hit_also_after_a_restart() {
    let mut agent = Agent::builder().start().unwrap();
    let module = agent.scratch().join("m.wasm");
    fs::write(&module, guests::says("hello")).unwrap();
    for (round, cache) in [(1, "miss"), (2, "hit")] {
        assert_eq!(agent.step(&module).run().unwrap().out(), "hello\n");
        assert_eq!(agent.last_record(round).unwrap().cache, cache);
    }
    assert_eq!(agent.stop().unwrap(), 0);
    assert!(!agent.socket().exists(), "a stopped agent takes its socket away");
    agent.start().unwrap();
    assert_eq!(agent.step(&module).run().unwrap().out(), "hello\n");
    assert_eq!(agent.last_record(1).unwrap().cache, "hit");
    agent.kill().unwrap();
    agent.start().unwrap();
    let ended = agent.step(&module).run().unwrap();
    assert_eq!((ended.out().as_str(), ended.err().as_str()), ("hello\n", ""));
    assert_eq!(agent.last_record(1).unwrap().cache, "hit");
}

/// L1: fifty steps run while the agent is killed; each ends with its own code.
#[test]
fn running_steps_outlive_a_killed_agent() {
    let mut agent = Agent::builder().start().unwrap();
    let mut steps = Vec::new();
    for code in 1..=50_u8 {
        let module = agent.scratch().join(format!("{}.wasm", code % 5));
        if code <= 5 {
            fs::write(&module, guests::sleeper(4000, 40 + code % 5)).unwrap();
        }
        steps.push((code % 5 + 40, agent.step(&module).start().unwrap()));
    }
    agent.until(SOON, |status| status.counts.lent == 50).unwrap();
    agent.kill().unwrap();
    for (code, step) in steps {
        let ended = step.wait().unwrap();
        assert_eq!((ended.code, ended.out().as_str()), (i32::from(code), "ready\ndone\n"));
    }
}

/// L2: SIGTERM while something compiles: the step that waits is served, then the agent ends.
#[test]
fn a_drain_serves_what_waits() {
    let mut agent = Agent::builder().setting("tiers = 'optimized-only'").start().unwrap();
    let module = agent.scratch().join("heavy.wasm");
    fs::write(&module, guests::heavy(6000, "drained")).unwrap();
    let step = agent.step(&module).start().unwrap();
    agent.until(SOON, |status| status.waiting == 1).unwrap();
    assert_eq!(agent.stop().unwrap(), 0);
    let ended = step.wait().unwrap();
    assert_eq!((ended.code, ended.out().as_str()), (0, "drained\n"), "{}", ended.err());
}

/// A drain that is over leaves what still waits to the next agent, and no compiler behind.
#[test]
fn a_drain_has_an_end_and_the_shim_asks_the_next_agent() {
    let mut agent = Agent::builder()
        .setting("tiers = 'optimized-only'")
        .setting("drain = '100ms'")
        .start()
        .unwrap();
    let module = agent.scratch().join("heavy.wasm");
    fs::write(&module, guests::heavy(12_000, "again")).unwrap();
    let step = agent.step(&module).start().unwrap();
    agent.until(SOON, |status| status.waiting == 1).unwrap();
    let began = Instant::now();
    assert_eq!(agent.stop().unwrap(), 0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    agent.start().unwrap();
    let ended = step.wait().unwrap();
    assert_eq!((ended.code, ended.out().as_str()), (0, "again\n"), "{}", ended.err());
}

/// L3: the shim is killed while it waits; its wait is dropped, the compile goes on.
#[test]
fn a_shim_that_leaves_stops_no_compilation() {
    let agent = Agent::builder().start().unwrap();
    let module = agent.scratch().join("heavy.wasm");
    fs::write(&module, guests::heavy(6000, "x")).unwrap();
    let step = agent.step(&module).start().unwrap();
    agent.until(SOON, |status| status.waiting == 1).unwrap();
    step.signal(Signal::KILL).unwrap();
    assert_eq!(step.wait().unwrap().code, 128 + 9);
    agent.until(SOON, |status| status.waiting == 0).unwrap();
    agent.until(SOON, |status| !status.modules.is_empty()).unwrap();
    assert_eq!(agent.step(&module).run().unwrap().out(), "x\n");
}

#[test]
fn the_shim_waits_for_an_agent_that_is_away() {
    let mut agent = Agent::builder().start().unwrap();
    let module = agent.scratch().join("m.wasm");
    fs::write(&module, guests::says("at last")).unwrap();
    agent.stop().unwrap();
    let step = agent.step(&module).start().unwrap();
    std::thread::sleep(Duration::from_millis(600));
    agent.start().unwrap();
    let ended = step.wait().unwrap();
    assert_eq!((ended.code, ended.out().as_str()), (0, "at last\n"));
    assert!(ended.err().contains("waiting for the agent"), "{}", ended.err());
    agent.stop().unwrap();
    let ended = agent.step(&module).flag("--wait").flag("300ms").run().unwrap();
    assert_eq!(ended.code, 125, "{}", ended.err());
}

#[test]
fn the_operator_s_commands_speak_to_the_running_agent() {
    let registry = Registry::start().unwrap();
    let pushed = registry.push("tools/x", "1", Form::Cncf, guests::says("x")).unwrap();
    let mut agent = Agent::builder().registry(&registry).start().unwrap();
    let warmed = agent.ask(["prewarm", &pushed.reference]).unwrap();
    assert!(warmed.status.success(), "{}", String::from_utf8_lossy(&warmed.stderr));
    let ended = agent.step(&pushed.reference).run().unwrap();
    assert_eq!((ended.out().as_str(), ended.err().as_str()), ("x\n", ""));
    assert_eq!(agent.last_record(1).unwrap().cache, "hit");
    let listed = String::from_utf8_lossy(&agent.ask(["ls"]).unwrap().stdout).into_owned();
    assert!(listed.contains(pushed.reference.trim_start_matches("oci://")), "{listed}");
    let json = agent.ask(["ls", "--output", "json"]).unwrap().stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json[0]["digest"], pushed.digest.as_str());
    assert!(agent.ask(["rm", &pushed.reference]).unwrap().status.success());
    assert!(agent.status().unwrap().modules.is_empty());
    let again = agent.ask(["rm", &pushed.reference]).unwrap();
    assert_eq!(again.status.code(), Some(1));
    let missing = agent.ask(["prewarm", "oci://127.0.0.1:1/nobody/there:1"]).unwrap();
    assert_eq!(missing.status.code(), Some(1));
    agent.stop().unwrap();
    let alone = agent.ask(["status"]).unwrap();
    assert_eq!(alone.status.code(), Some(1));
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(said.contains("no agent runs on the cache"), "{said}");
}

/// An agent that dies takes its compilers along: nobody waits for what they make.
#[test]
fn no_compiler_outlives_its_agent() {
    let mut agent = Agent::builder().setting("tiers = 'optimized-only'").start().unwrap();
    let module = agent.scratch().join("heavy.wasm");
    fs::write(&module, guests::heavy(30_000, "x")).unwrap();
    let _step = agent.step(&module).start().unwrap();
    let agent_pid = agent.program().unwrap().pid();
    let deadline = Instant::now() + SOON;
    let compiler = loop {
        if let Some(compiler) = child_named(agent_pid, "warmstep-compil") {
            break compiler;
        }
        assert!(Instant::now() < deadline, "no compiler was started");
        std::thread::sleep(Duration::from_millis(5));
    };
    agent.kill().unwrap();
    let gone = || !std::path::Path::new(&format!("/proc/{compiler}/exe")).exists();
    while !gone() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(gone(), "the compiler {compiler} still runs");
}

/// A child process by its name, as the kernel cuts it (proc_pid_comm(5)).
fn child_named(parent: rustix::process::Pid, name: &str) -> Option<u32> {
    let tasks = format!("/proc/{}/task", parent.as_raw_nonzero());
    let children = fs::read_dir(tasks)
        .ok()?
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    children.into_iter().find(|pid| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim_end() == name
    })
}
