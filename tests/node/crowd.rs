//! Many at once: pods take turns, descriptors run out and come back, readers never read.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use warmstep_tests::program::Program;
use warmstep_tests::{Agent, Step, paths};
use warmstep_wire::frame::{self, Kind};

use crate::{guests, raw};

/// Set for the greedy pod, a child of this test: the agent's socket, and where its modules are.
const GREEDY: &str = "WARMSTEP_GREEDY";

/// How many cold modules it asks for at once.
const GREED: usize = 200;

/// Not a test of its own: a pod that asks for more than its share, until it is killed.
#[test]
fn greedy() {
    let Ok(target) = std::env::var(GREEDY) else { return };
    let (socket, modules) = target.split_once(' ').unwrap();
    let connections: Vec<_> = (0..GREED)
        .map(|number| {
            let file = fs::File::open(format!("{modules}/{number}.wasm")).unwrap();
            let stream = raw::upgraded(Path::new(socket));
            let step = raw::step(&format!("/{number}.wasm"));
            frame::send(&stream, Kind::Step, &step, &[file.as_fd()]).unwrap();
            stream
        })
        .collect();
    println!("{} asked", connections.len());
    std::thread::sleep(Duration::from_secs(120));
}

/// Killed when the test is over, however it ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// O2, for what is cold: another pod's one module is compiled in its turn, not after two hundred.
#[test]
fn a_pod_that_asks_for_much_does_not_hold_up_others() {
    let agent = Agent::builder().setting("tiers = 'optimized-only'").start().unwrap();
    let modules = agent.scratch().join("greedy");
    fs::create_dir(&modules).unwrap();
    for number in 0..GREED {
        let wasm = guests::heavy(400, &format!("greedy {number}"));
        fs::write(modules.join(format!("{number}.wasm")), wasm).unwrap();
    }
    let mut greedy = Killed(
        Command::new("unshare")
            .args(["--net", "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "crowd::greedy", "--nocapture", "--test-threads=1"])
            .env(GREEDY, format!("{} {}", agent.socket().display(), modules.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let lines = BufReader::new(greedy.0.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("asked")));
    let module = agent.scratch().join("modest.wasm");
    fs::write(&module, guests::heavy(400, "modest")).unwrap();
    let ended = agent.step(&module).run().unwrap();
    assert_eq!((ended.code, ended.out().as_str()), (0, "modest\n"), "{}", ended.err());
    let waiting = agent.status().unwrap().waiting;
    assert!(waiting > 100, "only {waiting} of the greedy pod's steps still waited");
}

/// R7: sockets inside themselves, whose last reference would be on its way for ever.
#[test]
fn sockets_that_carry_themselves() {
    let mut agent = Agent::builder().start().unwrap();
    let canary = canary(agent.scratch());
    assert_eq!(agent.step(&canary).run().unwrap().out(), "canary\n");
    let directory = format!("/proc/{}/fd", agent.program().unwrap().pid().as_raw_nonzero());
    let before = fs::read_dir(&directory).unwrap().count();
    for _ in 0..10_000 {
        let stream = raw::upgraded(&agent.socket());
        let step = raw::step("/x.wasm");
        frame::send(&stream, Kind::Step, &step, &[stream.as_fd()]).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read_dir(&directory).unwrap().count() > before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = fs::read_dir(&directory).unwrap().count();
    assert!(after <= before, "{after} descriptors are open, {before} were");
    assert_eq!(agent.step(&canary).run().unwrap().out(), "canary\n");
}

fn canary(scratch: &Path) -> PathBuf {
    let path = scratch.join("canary.wasm");
    fs::write(&path, guests::says("canary")).unwrap();
    path
}

/// O3: with no descriptors left the agent neither spins nor dies, and serves again afterwards.
#[test]
fn an_agent_without_descriptors_recovers() {
    let scratch = tempfile::tempdir().unwrap();
    let socket = scratch.path().join("agent.sock");
    let mut command = Command::new("prlimit");
    command.arg("--nofile=256").arg(paths::program("warmstep-agent").unwrap());
    command.arg("serve").arg("--socket").arg(&socket);
    command.arg("--cache").arg(scratch.path().join("cache"));
    let log = scratch.path().join("log");
    let mut agent = Program::start("warmstep-agent", command, &log).unwrap();
    let connects = || std::os::unix::net::UnixStream::connect(&socket).ok().map(drop);
    agent.until(Duration::from_secs(20), |_| connects()).unwrap();
    let canary = canary(scratch.path());
    let step = || Step::new(&socket, canary.as_os_str()).run().unwrap();
    assert_eq!(step().out(), "canary\n");
    let crowd: Vec<_> = (0..400).map(|_| raw::connect(&socket)).collect();
    std::thread::sleep(Duration::from_millis(300));
    let before = processor_time(&agent);
    std::thread::sleep(Duration::from_secs(2));
    let spent = processor_time(&agent) - before;
    assert!(spent < 50, "{spent} ticks of 10 ms in two seconds");
    drop(crowd);
    let ended = step();
    assert_eq!(ended.out(), "canary\n", "{}", ended.err());
    assert!(agent.is_running().unwrap());
}

/// User and system time, in clock ticks (proc_pid_stat(5), fields 14 and 15).
fn processor_time(agent: &Program) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.pid().as_raw_nonzero())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// O5: readers that never read what they are told.
#[test]
fn readers_that_never_read_hold_nothing_up() {
    let agent = Agent::builder().setting("tiers = 'optimized-only'").start().unwrap();
    let module = agent.scratch().join("heavy.wasm");
    fs::write(&module, guests::heavy(5000, "read")).unwrap();
    let deaf: Vec<_> = (0..200)
        .map(|_| {
            let stream = raw::upgraded(&agent.socket());
            let file = fs::File::open(&module).unwrap();
            let step = raw::step("/heavy.wasm");
            frame::send(&stream, Kind::Step, &step, &[file.as_fd()]).unwrap();
            stream
        })
        .collect();
    let ended = agent.step(&module).run().unwrap();
    assert_eq!((ended.code, ended.out().as_str()), (0, "read\n"), "{}", ended.err());
    drop(deaf);
    agent.until(Duration::from_secs(20), |status| status.waiting == 0).unwrap();
}
