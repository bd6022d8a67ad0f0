//! Modules that people run, and what the runner makes of them.

mod support;

use support::Step;

const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "hello\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 8))
    (i32.store (i32.const 4) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))))"#;

#[test]
fn hello() {
    let ended = Step::wat(HELLO).run().success();
    assert_eq!(ended.out(), "hello\n");
    assert_eq!(ended.stderr, "");
    let outcome = ended.outcome();
    assert_eq!((outcome.code, outcome.bytes_written), (0, 6));
    assert!(outcome.load > 0 && outcome.peak_memory > 0);
}
