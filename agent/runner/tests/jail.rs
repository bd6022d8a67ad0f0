//! The jail of a running step, looked at from outside (M9), and a step whose container has less of
//! one. What the jail itself does is tested in its own package.

mod support;

use support::puppet::Puppet;
use support::refuse::refusing;
use support::{Ended, Step};
use tempfile::tempdir;

const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "hello\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 8))
    (i32.store (i32.const 4) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))))"#;

fn proc(puppet: &Puppet, file: &str) -> String {
    let path = format!("/proc/{}/{file}", puppet.id());
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_running_step_is_in_jail() {
    let directory = tempdir().expect("a directory");
    let mut puppet = Puppet::with(directory.path());
    assert_eq!(puppet.call("sched_yield", &[]), 0, "the module runs");
    let status = proc(&puppet, "status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2");
    assert_eq!(field("Threads"), "1");
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    for set in ["CapPrm", "CapEff"] {
        let held = u64::from_str_radix(&field(set), 16).expect("a number");
        // CAP_DAC_OVERRIDE and CAP_FOWNER, if it was started with them.
        assert_eq!(held & !0b1010, 0, "{set}");
    }
    // A neighbour who is not root is not even told.
    if rustix::process::geteuid().is_root() {
        assert_eq!(proc(&puppet, "environ"), "");
    }
    let limits = proc(&puppet, "limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"]);
}

#[test]
fn no_memory_is_both_writable_and_executable() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempdir().expect("a directory");
    let mut puppet = Puppet::with(directory.path());
    assert_eq!(puppet.call("sched_yield", &[]), 0, "the module runs");
    let maps = proc(&puppet, "maps");
    let both = |line: &&str| line.split(' ').nth(1).is_some_and(|modes| modes.starts_with("rwx"));
    assert!(maps.lines().any(|line| line.contains(" r-xp ")), "{maps}");
    assert_eq!(maps.lines().find(both), None);
}

/// Runs hello in a container that refuses a call with an error number.
fn without(call: libc::c_long, errno: libc::c_int) -> Ended {
    Step::wat(HELLO).start_with(|runner| refusing(runner, call, errno)).wait()
}

#[test]
fn a_layer_that_is_refused_is_told_to_the_agent_and_the_step_runs() {
    let ended = without(libc::SYS_landlock_create_ruleset, libc::ENOSYS).success();
    assert_eq!((ended.out().as_str(), ended.stderr.as_str()), ("hello\n", ""));
    let missing = ended.outcome().missing_layers.as_deref();
    assert_eq!(missing, Some("landlock (not in this kernel)"));
}

#[test]
fn a_layer_that_is_refused_is_told_however_the_step_ends() {
    let text = r#"(module (func (export "_start") (loop $l (br $l))))"#;
    let ended = Step::wat(text)
        .timeout(50)
        .start_with(|runner| refusing(runner, libc::SYS_landlock_create_ruleset, libc::ENOSYS))
        .wait();
    assert_eq!(ended.code(), 124);
    assert!(ended.outcome().missing_layers.is_some());
}

#[test]
fn another_way_to_the_same_is_not_worth_a_word() {
    for call in [libc::SYS_close_range, libc::SYS_seccomp] {
        let ended = without(call, libc::EPERM).success();
        assert_eq!((ended.out().as_str(), ended.stderr.as_str()), ("hello\n", ""));
    }
}
