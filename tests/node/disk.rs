//! C10 and C11: a disk that is full, has no inodes, or is read-only; and modules that go while they
//! are lent. Steps succeed or say what is wrong; the agent goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use warmstep_tests::program::Program;
use warmstep_tests::{Agent, Step, paths};

use crate::guests;

/// An agent whose cache is a disk of its own, in a mount namespace that ends with it.
struct OnDisk {
    agent: Program,
    scratch: TempDir,
}

impl OnDisk {
    fn start(options: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("cache")).unwrap();
        let script = "mount -t tmpfs -o \"$2\" none \"$1/cache\" && chmod 700 \"$1/cache\" && \
                      exec \"$3\" serve --socket \"$1/agent.sock\" --cache \"$1/cache\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(scratch.path()).arg(options);
        command.arg(paths::program("warmstep-agent").unwrap());
        let log = scratch.path().join("log");
        let mut agent = Program::start("warmstep-agent", command, &log).unwrap();
        let socket = scratch.path().join("agent.sock");
        let connects = || std::os::unix::net::UnixStream::connect(&socket).ok().map(drop);
        agent.until(Duration::from_secs(20), |_| connects()).unwrap();
        Self { agent, scratch }
    }

    fn module(&self, name: &str, wasm: Vec<u8>) -> PathBuf {
        let path = self.scratch.path().join(name);
        fs::write(&path, wasm).unwrap();
        path
    }

    fn step(&self, module: &Path) -> Step {
        Step::new(&self.scratch.path().join("agent.sock"), module.as_os_str())
    }

    /// Does something in the agent's mount namespace.
    fn inside(&self, script: &str) {
        let status = Command::new("nsenter")
            .args(["--mount", "--target", &self.agent.pid().as_raw_nonzero().to_string()])
            .args(["sh", "-c", script, "sh"])
            .arg(self.scratch.path().join("cache"))
            .status()
            .unwrap();
        assert!(status.success(), "{script} ended with {status}");
    }

    /// A step of a module that was compiled before still runs; a new one says what is wrong.
    fn says(&mut self, warm: &Path, word: &str) {
        let cold = self.module("cold.wasm", guests::heavy(3000, "cold"));
        let ended = self.step(&cold).run().unwrap();
        assert_eq!(ended.code, 125, "{}", ended.err());
        let last = ended.err().lines().last().unwrap().to_owned();
        assert!(last.contains(word), "{last}");
        let ended = self.step(warm).run().unwrap();
        assert_eq!((ended.code, ended.out().as_str()), (0, "warm\n"), "{}", ended.err());
        assert!(self.agent.is_running().unwrap());
    }
}

#[test]
fn a_full_disk_is_named_and_recovers() {
    let mut node = OnDisk::start("size=8m");
    let warm = node.module("warm.wasm", guests::says("warm"));
    assert_eq!(node.step(&warm).run().unwrap().code, 0);
    node.inside("dd if=/dev/zero of=\"$1/filler\" bs=64k 2>/dev/null; true");
    node.says(&warm, "No space left on device");
    node.inside("rm \"$1/filler\"");
    let cold = node.scratch.path().join("cold.wasm");
    let ended = node.step(&cold).run().unwrap();
    assert_eq!((ended.code, ended.out().as_str()), (0, "cold\n"), "{}", ended.err());
}

#[test]
fn a_disk_without_inodes_is_named() {
    let mut node = OnDisk::start("size=64m,nr_inodes=200");
    let warm = node.module("warm.wasm", guests::says("warm"));
    assert_eq!(node.step(&warm).run().unwrap().code, 0);
    node.inside("n=0; while touch \"$1/filler$n\" 2>/dev/null; do n=$((n+1)); done");
    node.says(&warm, "No space left on device");
}

#[test]
fn a_read_only_disk_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o ro none \"$1\" && \
                  exec \"$2\" serve --socket \"$1.sock\" --cache \"$1/cache\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(scratch.path())
        .arg(paths::program("warmstep-agent").unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("/cache: Read-only file system"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// Wasm is checked while it is compiled: of what was damaged on the disk no form is kept, and the one
/// that is there stays.
#[test]
fn damaged_wasm_gets_no_better_form() {
    let mut agent = Agent::builder().start().unwrap();
    let wasm = guests::heavy(20_000, "right");
    let module = agent.scratch().join("m.wasm");
    fs::write(&module, &wasm).unwrap();
    assert_eq!(agent.step(&module).run().unwrap().out(), "right\n");
    // Long before the better form is ready.
    agent.kill().unwrap();
    let kept = fs::read_dir(agent.cache().join("wasm")).unwrap().next().unwrap().unwrap().path();
    let at = wasm.windows(5).position(|bytes| bytes == b"right").unwrap();
    let mut damaged = wasm;
    damaged[at] = b'w';
    fs::write(&kept, damaged).unwrap();
    agent.start().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !agent.log().unwrap().contains("the module stays at its baseline form") {
        assert!(Instant::now() < deadline, "{}", agent.log().unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(agent.log().unwrap().contains("cached Wasm is damaged"));
    assert!(!kept.exists());
    let modules = agent.status().unwrap().modules;
    assert_eq!((modules.get("baseline"), modules.get("optimized")), (Some(&1), None));
    assert_eq!(agent.step(&module).run().unwrap().out(), "right\n");
}

/// C11: what a step runs is neither evicted, nor harmed when it is removed.
#[test]
fn a_module_that_is_lent_is_not_evicted_and_may_be_removed() {
    let agent = Agent::builder().start().unwrap();
    let module = agent.scratch().join("m.wasm");
    fs::write(&module, guests::sleeper(3000, 7)).unwrap();
    let idle = agent.scratch().join("idle.wasm");
    fs::write(&idle, guests::says("idle")).unwrap();
    assert_eq!(agent.step(&idle).run().unwrap().code, 0);
    let running = agent.step(&module).start().unwrap();
    agent.until(Duration::from_secs(20), |status| status.counts.lent == 2).unwrap();
    let soon = Duration::from_secs(20);
    agent.until(soon, |status| status.modules.get("optimized") == Some(&2)).unwrap();
    let collected = agent.ask(["gc", "--to", "0B"]).unwrap();
    let said = String::from_utf8_lossy(&collected.stdout).into_owned();
    assert!(said.ends_with("1 modules removed\n"), "{said}");
    assert_eq!(agent.status().unwrap().modules.get("optimized"), Some(&1));
    let digest = warmstep_tests::push::sha256(&fs::read(&module).unwrap());
    assert!(agent.ask(["rm", &digest]).unwrap().status.success());
    assert!(agent.status().unwrap().modules.is_empty());
    let ended = running.wait().unwrap();
    assert_eq!((ended.code, ended.out().as_str()), (7, "ready\ndone\n"), "{}", ended.err());
}

/// Over its bounds the cache gives up what was used least recently.
#[test]
fn the_cache_stays_within_its_bounds() {
    let agent = Agent::builder()
        .setting("tiers = 'optimized-only'")
        .tables("[limits]\ncache_modules = 3")
        .start()
        .unwrap();
    for word in ["a", "b", "c", "d", "e"] {
        let module = agent.scratch().join(format!("{word}.wasm"));
        fs::write(&module, guests::says(word)).unwrap();
        assert_eq!(agent.step(&module).run().unwrap().out(), format!("{word}\n"));
        // Use is noted by the second.
        std::thread::sleep(Duration::from_millis(1100));
    }
    let listed = agent.ask(["ls", "--output", "json"]).unwrap().stdout;
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    let digests: Vec<&str> =
        listed.as_array().unwrap().iter().map(|one| one["digest"].as_str().unwrap()).collect();
    assert_eq!(digests.len(), 3, "{digests:?}");
    for word in ["c", "d", "e"] {
        let digest = warmstep_tests::push::sha256(&guests::says(word));
        assert!(digests.contains(&digest.as_str()), "{word} is gone");
    }
}
