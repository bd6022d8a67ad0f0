//! The step is the pod's own process: arguments, streams, exit codes, signals, limits.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use warmstep_tests::{Agent, Step};

use crate::guests;

fn module(agent: &Agent, wasm: Vec<u8>) -> Step {
    let name = warmstep_tests::push::sha256(&wasm).replace(':', "-");
    let path = agent.scratch().join(format!("{name}.wasm"));
    fs::write(&path, wasm).unwrap();
    agent.step(path)
}

#[test]
fn arguments_arrive_as_they_are() {
    let agent = Agent::builder().start().unwrap();
    let step = module(&agent, guests::echo()).arguments(["--flag", "", "zwei drei", "ä"]);
    let out = step.run().unwrap().out();
    let (_, rest) = out.split_once(".wasm\0").unwrap();
    assert_eq!(rest, "--flag\0\0zwei drei\0ä\0");
}

#[test]
fn a_megabyte_of_arguments_arrives() {
    let agent = Agent::builder().start().unwrap();
    let argument = "x".repeat(100_000);
    let step = module(&agent, guests::echo()).arguments(vec![argument.clone(); 10]);
    let ended = step.run().unwrap();
    assert_eq!(ended.code, 0, "{}", ended.err());
    assert_eq!(ended.out().split('\0').filter(|text| **text == argument).count(), 10);
}

#[test]
fn the_exit_code_is_the_module_s_own() {
    let agent = Agent::builder().start().unwrap();
    for code in [0, 1, 3, 63, 125, 126, 255] {
        let ended = module(&agent, guests::sleeper(0, code)).run().unwrap();
        assert_eq!(ended.code, i32::from(code), "{}", ended.err());
    }
}

#[test]
fn the_step_keeps_its_process_and_dies_of_signals_as_one() {
    let agent = Agent::builder().start().unwrap();
    let step = module(&agent, guests::sleeper(60_000, 0));
    // Warm, so that the signal meets the module and not the shim.
    let warm = step.clone().start().unwrap();
    agent.until(Duration::from_secs(20), |status| status.counts.lent == 1).unwrap();
    let comm = format!("/proc/{}/cmdline", warm.pid().as_raw_nonzero());
    wait_until(|| fs::read_to_string(&comm).unwrap().starts_with("warmstep-run\0"));
    warm.signal(Signal::KILL).unwrap();
    assert_eq!(warm.wait().unwrap().code, 128 + 9);
    let died = agent.until(Duration::from_secs(20), |status| status.counts.died == 1).unwrap();
    assert_eq!(died.recent.last().unwrap().code, None);
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let lent = agent.status().unwrap().counts.lent;
        let running = step.clone().start().unwrap();
        agent.until(Duration::from_secs(20), |status| status.counts.lent > lent).unwrap();
        let comm = format!("/proc/{}/cmdline", running.pid().as_raw_nonzero());
        wait_until(|| fs::read_to_string(&comm).unwrap().starts_with("warmstep-run\0"));
        running.signal(signal).unwrap();
        assert_eq!(running.wait().unwrap().code, code);
    }
}

fn wait_until(ready: impl Fn() -> bool) {
    for _ in 0..1000 {
        if ready() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not ready after 10 s");
}

#[test]
fn a_trap_is_explained() {
    let agent = Agent::builder().start().unwrap();
    let ended = module(&agent, guests::traps()).run().unwrap();
    assert_eq!(ended.code, 134);
    assert!(ended.err().contains("unreachable"), "{}", ended.err());
    let record = agent.last_record(1).unwrap();
    assert_eq!(record.code, Some(134));
    assert!(record.reason.unwrap().contains("unreachable"));
}

/// M3: an endless loop is dead at its deadline.
#[test]
fn a_timeout_ends_what_never_ends() {
    let agent = Agent::builder().start().unwrap();
    let ended = module(&agent, guests::spins()).flag("--timeout").flag("300ms").run().unwrap();
    assert_eq!(ended.code, 124, "{}", ended.err());
    assert!(ended.wall < Duration::from_secs(10), "{:?}", ended.wall);
    assert!(ended.err().contains("--timeout"), "{}", ended.err());
}

/// A module that starts with 17 pages does not fit into one of them.
#[test]
fn a_memory_limit_is_named() {
    let agent = Agent::builder().start().unwrap();
    let ended = module(&agent, guests::echo()).flag("--memory").flag("64Ki").run().unwrap();
    assert_eq!(ended.code, 126, "{}", ended.err());
    assert!(ended.err().contains("--memory"), "{}", ended.err());
}
