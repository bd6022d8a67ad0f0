//! Agents that are away, leave, or have too much to do.

mod support;

use std::os::unix::net::UnixListener;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::agent::{Agent, Connection, Visit};
use support::shim::{finish, run, start, wait};
use warmstep_wire::message::{Phase, Reply};

fn lend(mut connection: Connection) {
    connection.welcome();
    connection.lend_runner("exit 5");
}

fn visit(visit: impl FnOnce(Connection) + Send + 'static) -> Visit {
    Box::new(visit)
}

#[test]
fn an_agent_that_never_comes() {
    let agent = Agent::away();
    let ended = finish(&mut run(&agent.socket(), &["--wait", "300ms", "oci://r/m"]));
    let lines: Vec<_> = ended.stderr.lines().collect();
    let socket = agent.socket();
    let socket = socket.display();
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert_eq!(lines.len(), 2, "{ended:?}");
    assert_eq!(lines[0], format!("warmstep: waiting for the agent at {socket} (300ms)…"));
    // The last sleep may take a little longer.
    assert!(lines[1].starts_with(&format!("warmstep: no agent at {socket} after 3")), "{ended:?}");
    assert!(lines[1].contains("ms: there is no socket; check that"), "{ended:?}");
    assert!(lines[1].contains("WARMSTEP_SOCKET"), "{ended:?}");
    assert!(ended.after >= Duration::from_millis(300), "{ended:?}");
    assert!(ended.after < Duration::from_secs(5), "{ended:?}");
}

#[test]
fn no_wait_at_all() {
    let agent = Agent::away();
    let socket = agent.socket();
    let ended = finish(&mut run(&socket, &["--wait", "0", "oci://r/m"]));
    ended.failed(125, &["no agent at", "there is no socket;"]);
    let ended = finish(run(&socket, &["oci://r/m"]).env("WARMSTEP_WAIT", "0"));
    ended.failed(125, &["no agent at"]);
    let missing = agent.folder().join("missing/agent.sock");
    finish(&mut run(&missing, &["--wait", "0", "oci://r/m"])).failed(125, &["there is no socket"]);
    drop(UnixListener::bind(&socket).expect("a socket that nobody serves"));
    let ended = finish(&mut run(&socket, &["--wait", "0", "oci://r/m"]));
    ended.failed(125, &["nobody listens"]);
}

#[test]
fn quiet_says_only_what_failed() {
    let agent = Agent::away();
    let ended = finish(&mut run(&agent.socket(), &["--wait", "50ms", "--quiet", "oci://r/m"]));
    ended.failed(125, &["no agent at"]);
}

#[test]
fn an_agent_that_comes_late() {
    for quiet in [false, true] {
        let mut agent = Agent::away();
        // A stale socket of an earlier agent is there first.
        drop(UnixListener::bind(agent.socket()).expect("a stale socket"));
        agent.come(Duration::from_millis(200), vec![visit(lend)]);
        let mut command = run(&agent.socket(), &["oci://r/m"]);
        let ended = finish(if quiet { command.arg("-q") } else { &mut command });
        assert_eq!(ended.code, Some(5), "{ended:?}");
        let lines: Vec<_> = ended.stderr.lines().collect();
        if quiet {
            assert!(lines.is_empty(), "{ended:?}");
        } else {
            assert_eq!(lines.len(), 2, "{ended:?}");
            assert!(lines[0].ends_with("agent.sock (60s)…"), "{ended:?}");
            assert!(lines[1].starts_with("warmstep: the agent is there, after "), "{ended:?}");
        }
        agent.join();
    }
}

#[test]
fn connections_cut_at_every_point_but_after_the_loan() {
    let cut_in_reply = |mut connection: Connection| {
        connection.welcome();
        std::io::Write::write_all(&mut connection.0, b"WSTP\x02").expect("half a header");
    };
    let cut_after_progress = |mut connection: Connection| {
        connection.welcome();
        connection.reply(&Reply::Progress { phase: Phase::Pull, done: 1, total: 2 });
    };
    let agent = Agent::start(vec![
        visit(drop),
        visit(|mut connection| drop(connection.answer(""))),
        visit(|mut connection| drop(connection.answer("HTTP/1.1 101 Switching"))),
        visit(|mut connection| connection.upgrade()),
        visit(|mut connection| drop(connection.welcome())),
        visit(cut_in_reply),
        visit(cut_after_progress),
        visit(lend),
    ]);
    let module = agent.folder().join("m.wasm");
    std::fs::write(&module, "the module").expect("a module");
    let mut command = run(&agent.socket(), &["--quiet"]);
    let ended = finish(command.arg(module).args(["--", "x"]));
    assert_eq!((ended.code, &*ended.stderr), (Some(5), ""), "{ended:?}");
    agent.join();
}

#[test]
fn a_step_that_brings_its_agent_down() {
    let lost = |mut connection: Connection| drop(connection.welcome());
    let agent = Agent::start((0..5).map(|_| visit(lost)).collect());
    let ended = finish(&mut run(&agent.socket(), &["--quiet", "oci://r/m"]));
    ended.failed(125, &["lost 5 times", "its log says why"]);
    agent.join();
}

#[test]
fn an_agent_that_hangs_up_on_everyone() {
    let agent = Agent::start((0..3).map(|_| visit(drop)).collect());
    let socket = agent.socket();
    let ended = finish(&mut run(&socket, &["--wait", "0", "oci://r/m"]));
    ended.failed(125, &["it closes the connection without an answer"]);
    for _ in 0..2 {
        finish(&mut run(&socket, &["--wait", "0", "oci://r/m"])).failed(125, &["no agent at"]);
    }
    agent.join();
}

#[test]
fn an_agent_that_is_draining() {
    let draining = |mut connection: Connection| {
        let head =
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 8\r\n\r\n";
        connection.answer(&format!("{head}draining"));
    };
    let agent = Agent::start(vec![visit(draining), visit(lend)]);
    let ended = finish(&mut run(&agent.socket(), &["oci://r/m"]));
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.after >= Duration::from_secs(1), "{ended:?}");
    agent.join();

    let agent = Agent::once(draining);
    let ended = finish(&mut run(&agent.socket(), &["--wait", "0", "oci://r/m"]));
    ended.failed(125, &["no agent at", ": draining;"]);
    agent.join();
}

#[test]
fn a_busy_agent_is_asked_again_when_it_wants() {
    let busy = |mut connection: Connection| {
        connection.welcome();
        connection.reply(&Reply::Busy { retry_after: 100 });
    };
    let agent = Agent::start(vec![visit(busy), visit(busy), visit(busy), visit(lend)]);
    let ended = finish(&mut run(&agent.socket(), &["oci://r/m"]));
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert_eq!(ended.stderr, "warmstep: the agent is busy: waiting (60s)…\n");
    assert!(ended.after >= Duration::from_millis(300), "{ended:?}");
    agent.join();
}

#[test]
fn a_busy_agent_for_too_long() {
    let busy = |mut connection: Connection| {
        connection.welcome();
        connection.reply(&Reply::Busy { retry_after: 3_600_000 });
    };
    // Once at first, and once more when the patience ends.
    let agent = Agent::start(vec![visit(busy), visit(busy)]);
    let ended = finish(&mut run(&agent.socket(), &["--wait", "200ms", "-q", "oci://r/m"]));
    ended.failed(125, &["the agent is busy after 2", "--wait"]);
    agent.join();
}

/// Waits until the shim sleeps while its agent is away.
fn waiting(command: &mut Command, agent: &Agent) -> Child {
    let child = start(command);
    // It has installed its handlers when it asks for the socket; one look later is enough.
    let path = format!("/proc/{}/status", child.id());
    let begun = Instant::now();
    let caught = |status: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok())
            .is_some_and(|m| m & (1 << 14) != 0)
    };
    while !std::fs::read_to_string(&path).is_ok_and(|status| caught(&status)) {
        assert!(begun.elapsed() < support::agent::DEADLINE, "{:?} never waits", agent.socket());
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[test]
fn signals_end_the_wait_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let agent = Agent::away();
        let child = waiting(&mut run(&agent.socket(), &["-q", "oci://r/m"]), &agent);
        kill_process(Pid::from_child(&child), signal).expect("a signal");
        let ended = wait(child);
        assert_eq!((ended.code, &*ended.stderr), (Some(code), ""), "{ended:?}");
        assert!(ended.after < Duration::from_secs(5), "{ended:?}");
    }
}

#[test]
fn a_signal_that_the_caller_ignores_stays_ignored() {
    let agent = Agent::away();
    // What a shell does for a job in the background.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' INT; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_warmstep"), "run"]);
    command.args(["--wait", "700ms", "-q", "oci://r/m", "--socket"]).arg(agent.socket());
    let child = waiting(&mut command, &agent);
    kill_process(Pid::from_child(&child), Signal::INT).expect("a signal");
    wait(child).failed(125, &["no agent at"]);
}

/// The first process of a container gets no signal that it has no handler for.
#[test]
fn signals_end_the_wait_of_a_containers_first_process() {
    let agent = Agent::away();
    let unshare = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--pid", "--fork", program]);
        command
    };
    if !unshare("true").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: this machine makes no PID namespace");
        return;
    }
    let mut command = unshare(env!("CARGO_BIN_EXE_warmstep"));
    command.args(["run", "-q", "oci://r/m", "--socket"]).arg(agent.socket());
    let child = start(&mut command);
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let begun = Instant::now();
    let first = loop {
        let listed = std::fs::read_to_string(&children).expect("the children of unshare");
        let pid = listed.trim().parse().ok().and_then(Pid::from_raw);
        // Before it has become the shim it would not mind the signal.
        let name = pid.and_then(|pid| {
            std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()
        });
        let ready = name.is_some_and(|s| s.contains("warmstep") && s.contains("SigCgt:\t00000000"));
        if ready && begun.elapsed() > Duration::from_millis(200) {
            break pid.expect("a process");
        }
        assert!(begun.elapsed() < support::agent::DEADLINE, "it never starts");
        std::thread::sleep(Duration::from_millis(5));
    };
    kill_process(first, Signal::TERM).expect("a signal");
    let ended = wait(child);
    assert_eq!((ended.code, &*ended.stderr), (Some(143), ""), "{ended:?}");
    assert!(ended.after < Duration::from_secs(10), "{ended:?}");
}
