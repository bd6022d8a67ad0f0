//! What a start costs: hello, beside a static program that does nothing, in the same run.

mod support;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::Step;
use tempfile::TempDir;

/// What the start of hello may cost more than the start of a program that does nothing.
const MOST: Duration = Duration::from_micros(600);

/// How many pairs make a round. The machine has other things to do: one quiet round is enough.
const PAIRS: usize = 100;
const ROUNDS: usize = 10;

const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "hello\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 8))
    (i32.store (i32.const 4) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))))"#;

/// A static program that does nothing, made by the C compiler that Rust links with.
fn nothing() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let mut compiler = Command::new("cc")
        .args(["-O2", "-static", "-x", "c", "-", "-o"])
        .arg(directory.path().join("nothing"))
        .stdin(Stdio::piped())
        .spawn()
        .expect("there is a C compiler");
    let mut stdin = compiler.stdin.take().expect("it is piped");
    stdin.write_all(b"int main(void) { return 0; }").expect("it reads");
    drop(stdin);
    assert!(compiler.wait().expect("it ends").success());
    directory
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn hello_starts_soon_after_nothing() {
    let directory = nothing();
    let nothing = directory.path().join("nothing");
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..PAIRS {
            let before = Instant::now();
            let mut command = Command::new(&nothing);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).env_clear();
            // Started as the runner is, by `fork`.
            support::keep_open(&mut command, Vec::new());
            let mut child = command.spawn().expect("it starts");
            assert!(child.wait().expect("it ends").success());
            bare.push(before.elapsed());

            let step = Step::wat(HELLO).timeout(0).stdout(Stdio::null()).stderr(Stdio::null());
            let (took, ended) = step.timed();
            assert_eq!(ended.code(), 0);
            ours.push(took);
        }
        let (bare, ours) = (median(bare), median(ours));
        println!("nothing {bare:?}, hello {ours:?}");
        best = best.min(ours.saturating_sub(bare));
        if best <= MOST {
            break;
        }
    }
    println!("hello takes {best:?} more than nothing");
    assert!(best <= MOST, "{best:?}");
}
