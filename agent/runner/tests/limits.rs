//! What a module may use, and how a step ends that uses more, traps, or is stopped.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::{Ended, Step};

const EXIT: &str = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;

/// A command that does this.
fn command(body: &str) -> Step {
    Step::wat(&format!("(module {EXIT} {body})"))
}

/// What `_start` does.
fn start(body: &str) -> Step {
    command(&format!(r#"(memory (export "memory") 1) (func $start (export "_start") {body})"#))
}

fn reason(ended: &Ended) -> &str {
    ended.outcome().reason.as_deref().expect("there is a reason")
}

/// Checks what every ending that is not the module's own choice has.
fn told(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code(), code, "{ended:?}");
    assert_eq!(i32::from(ended.outcome().code), code);
    for word in words {
        assert!(reason(ended).contains(word), "{word} is not in {}", reason(ended));
    }
    let last = format!("warmstep: {}", reason(ended));
    assert_eq!(ended.stderr.lines().last(), Some(&*last), "it is the last line");
}

#[test]
fn a_memory_grows_to_its_limit() {
    // 16 MiB are 256 pages.
    let grow = r#"(if (i32.ne (memory.grow (i32.const 255)) (i32.const 1)) (then (call $exit (i32.const 2))))
                  (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then (call $exit (i32.const 3))))"#;
    let ended = start(grow).memory(16 << 20).run().success();
    assert_eq!(ended.stderr, "", "a module that does without is left alone");
    let ended = start(&format!("{grow} (call $exit (i32.const 9))")).memory(16 << 20).run();
    told(&ended, 9, &["16 MiB", "--memory"]);
    let ended = start(&format!("{grow} unreachable")).memory(16 << 20).run();
    told(&ended, 134, &["16 MiB", "--memory", "unreachable"]);
}

#[test]
fn a_memory_that_begins_above_the_limit_is_refused() {
    let body = r#"(memory (export "memory") 257) (func (export "_start"))"#;
    told(&command(body).memory(16 << 20).run(), 126, &["16 MiB", "--memory"]);
    command(body).memory(257 << 16).run().success();
}

#[test]
fn memories_and_tables_count_together() {
    // 8 MiB of memory; a table of a million elements is 8 MB.
    let body = r#"(memory (export "memory") 128) (table 1000000 funcref) (func (export "_start"))"#;
    told(&command(body).memory(15 << 20).run(), 126, &["15 MiB"]);
    command(body).memory(17 << 20).run().success();
}

#[test]
fn a_table_grows_to_its_share() {
    let body = |count: u32| {
        format!(
            r#"(memory (export "memory") 1) (table $t 10 funcref)
               (func (export "_start")
                 (call $exit (i32.eq (i32.const -1)
                   (table.grow $t (ref.null func) (i32.const {count})))))"#
        )
    };
    assert_eq!(command(&body(100_000)).memory(16 << 20).run().code(), 0);
    assert_eq!(command(&body(200_000)).memory(16 << 20).run().code(), 1);
    assert_eq!(command(&body(u32::MAX)).memory(1 << 40).run().code(), 1);
}

#[test]
fn growing_everything_to_the_maximum_ends_only_the_step() {
    let body = r#"(memory (export "memory") 1) (table $t 1 funcref)
      (func (export "_start")
        (loop $more (br_if $more (i32.ne (i32.const -1) (memory.grow (i32.const 64)))))
        (loop $more (br_if $more (i32.ne (i32.const -1)
          (table.grow $t (ref.null func) (i32.const 1000)))))
        unreachable)"#;
    let ended = command(body).memory(64 << 20).run();
    told(&ended, 134, &["64 MiB", "--memory"]);
    assert!(ended.outcome().peak_memory < 96 << 20);
}

#[test]
fn a_loop_ends_at_its_time() {
    let before = Instant::now();
    let ended = start("(loop $for-ever (br $for-ever))").timeout(250).run();
    told(&ended, 124, &["250 ms", "--timeout"]);
    let took = before.elapsed();
    assert!((250..2000).contains(&took.as_millis()), "{took:?}");
    assert!(ended.outcome().run >= 250_000 && ended.outcome().cpu > 20_000);
}

#[test]
fn a_loop_in_the_start_function_ends_at_its_time() {
    let body = r#"(memory (export "memory") 1) (func $init (loop $l (br $l))) (start $init)
                  (func (export "_start"))"#;
    told(&command(body).timeout(1000).run(), 124, &["1 s", "--timeout"]);
}

#[test]
fn a_step_that_waits_ends_at_its_time() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let read = r#"(module
      (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "_start")
        (i32.store (i32.const 4) (i32.const 1))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    let ended = Step::wat(read).stdin(reader).timeout(100).run();
    told(&ended, 124, &["100 ms"]);
    drop(writer);
}

#[test]
fn time_that_is_left_does_not_matter() {
    start("").timeout(60_000).run().success();
    start("").timeout(u64::MAX).run().success();
    start("").timeout(0).run().success();
}

#[test]
fn standard_error_that_nobody_reads_does_not_keep_a_step_alive() {
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    // Full, with a writer that would block.
    rustix::io::ioctl_fionbio(&writer, true).expect("non-blocking");
    while rustix::io::write(&writer, &[0; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).expect("blocking again");
    let before = Instant::now();
    let step = start("(loop $for-ever (br $for-ever))").timeout(100).stderr(writer);
    assert_eq!(step.run().code(), 124);
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[test]
fn traps_are_told_with_a_backtrace() {
    let memory = r#"(memory (export "memory") 1)"#;
    let table = "(table 2 2 funcref) (type $none (func)) (type $one (func (param i32)))";
    let cases = [
        ("unreachable", "unreachable"),
        ("(drop (i32.load (i32.const 0x7fffffff)))", "out of bounds"),
        ("(i32.store offset=0xffffffff (i32.const -1) (i32.const 1))", "out of bounds"),
        ("(memory.fill (i32.const 65535) (i32.const 0) (i32.const 2))", "out of bounds"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "division by zero"),
        ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", "overflow"),
        ("(drop (i32.trunc_f32_s (f32.const nan)))", "does not fit into an integer"),
        ("(call_indirect (type $none) (i32.const 0))", "null"),
        ("(call_indirect (type $none) (i32.const 9))", "table"),
        ("(call_indirect (type $one) (i32.const 7) (i32.const 1))", "signature"),
    ];
    for (instruction, word) in cases {
        let body = format!(
            r#"{memory} {table} (elem (i32.const 1) func $fine) (func $fine)
               (func $inner_function {instruction})
               (func $outer_function (call $inner_function))
               (func $start (export "_start") (call $outer_function))"#
        );
        let ended = command(&body).run();
        told(&ended, 134, &["the module trapped", word]);
        let places: Vec<_> = ["inner_function", "outer_function", "start"]
            .iter()
            .map(|name| ended.stderr.find(name).unwrap_or_else(|| panic!("{name}: {ended:?}")))
            .collect();
        assert!(places.is_sorted(), "{}", ended.stderr);
    }
}

#[test]
fn endless_recursion_is_a_trap() {
    let body = r#"(memory (export "memory") 1)
      (func $deeper (param i64) (result i64)
        (i64.add (local.get 0) (call $deeper (i64.add (local.get 0) (i64.const 1)))))
      (func (export "_start") (drop (call $deeper (i64.const 0))))"#;
    told(&command(body).run(), 134, &["the module trapped", "stack overflow"]);
}

#[test]
fn a_trap_in_the_start_function_is_a_trap() {
    let body = r#"(memory (export "memory") 1) (func $init unreachable) (start $init)
                  (func (export "_start"))"#;
    told(&command(body).run(), 134, &["the module trapped", "unreachable"]);
}

#[test]
fn the_start_function_can_already_use_its_memory() {
    let body = r#"
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 16) "early")
      (func $init
        (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 5))
        (call $exit (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
      (start $init)
      (func (export "_start") unreachable)"#;
    assert_eq!(command(body).run().success().out(), "early");
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("a process number")).expect("not 0")
}

#[test]
fn signals_end_the_step_at_once() {
    let cases = [
        (Signal::TERM, 143, "SIGTERM"),
        (Signal::INT, 130, "SIGINT"),
        (Signal::HUP, 129, "SIGHUP"),
    ];
    for (signal, code, name) in cases {
        let (_reader, writer) = std::io::pipe().expect("a pipe");
        // It says that it runs, and then does so for ever.
        let body = r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "_start")
            (i32.store (i32.const 4) (i32.const 1))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (loop $l (br $l))))"#;
        let mut running = Step::wat(body).stdin(_reader).start();
        let mut byte = [0];
        let stdout = running.child.stdout.as_mut().expect("it is piped");
        std::io::Read::read_exact(stdout, &mut byte).expect("it runs");
        let before = Instant::now();
        kill_process(pid(running.child.id()), signal).expect("it is there");
        let ended = running.wait();
        assert!(before.elapsed() < Duration::from_secs(1));
        told(&ended, code, &["stopped", name]);
        drop(writer);
    }
}

#[test]
fn signals_end_the_first_process_of_a_namespace() {
    let text =
        r#"(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))"#;
    let step = Step::wat(text).timeout(20_000);
    let running = step.start_with(|runner| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork"]).arg(runner);
        command
    });
    let Some(child) = child_of(running.child.id()) else {
        // A sandbox without the right to make namespaces.
        let ended = running.wait();
        assert!(ended.stderr.contains("unshare"), "{ended:?}");
        eprintln!("not tried: {}", ended.stderr);
        return;
    };
    // It must have come as far as its handlers.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !handles(child, 15) {
        assert!(Instant::now() < deadline, "it never handles SIGTERM");
        std::thread::sleep(Duration::from_millis(5));
    }
    kill_process(pid(child), Signal::TERM).expect("it is there");
    let ended = running.wait();
    assert_eq!(ended.status.code(), Some(143), "{ended:?}");
    assert_eq!(ended.outcome().code, 143);
}

/// The child of a process, once it has one.
fn child_of(parent: u32) -> Option<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let children = std::fs::read_to_string(&path).ok()?;
        if let Some(child) = children.split_whitespace().next() {
            return child.parse().ok();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Whether a process has a handler for a signal, by its status.
fn handles(process: u32, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

#[test]
fn the_termination_log_has_the_last_line() {
    let text = r#"(module (func (export "_start") unreachable))"#;
    // A `/dev` of its own, so that the machine's is left alone.
    let script = r#"mount -t tmpfs none /dev && : > /dev/termination-log || exit 77
                    "$@"; code=$?; cat /dev/termination-log; exit $code"#;
    let ended = Step::wat(text)
        .start_with(|runner| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", script, "sh"]).arg(runner);
            command
        })
        .wait();
    if ended.stderr.contains("unshare") || ended.status.code() == Some(77) {
        eprintln!("not tried: {}", ended.stderr);
        return;
    }
    told(&ended, 134, &["unreachable"]);
    assert_eq!(ended.out(), format!("warmstep: {}\n", reason(&ended)));
}

#[test]
fn nobody_to_tell_does_not_matter() {
    let text = r#"(module
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (func (export "_start") (call $exit (i32.const 5))))"#;
    let running = Step::wat(text).start();
    // The agent is gone.
    let support::Running { mut child, connection } = running;
    drop(connection);
    assert_eq!(child.wait().expect("it ends").code(), Some(5));

    // The agent is there, and does not read.
    let running = Step::wat(text).prepare(|theirs| {
        rustix::io::ioctl_fionbio(theirs, true).expect("non-blocking");
        while rustix::io::write(theirs, &[0; 4096]).is_ok() {}
        rustix::io::ioctl_fionbio(theirs, false).expect("blocking again");
    });
    let support::Running { mut child, connection } = running.start();
    let status = child.wait().expect("it ends");
    assert_eq!((status.code(), status.signal()), (Some(5), None));
    drop(connection);
}

#[test]
fn ten_gibibytes_on_standard_output_cost_no_memory() {
    let text = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 17)
      (func (export "_start") (local $left i32)
        (i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const 1048576))
        (local.set $left (i32.const 10240))
        (loop $more
          (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
            (then unreachable))
          (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"#;
    let ended = Step::wat(text).stdout(Stdio::null()).run().success();
    assert_eq!(ended.outcome().bytes_written, 10 << 30);
    assert!(ended.outcome().peak_memory < 32 << 20);
}
