//! Exceptions: such modules are linked, where others are written down as they are.

mod support;

use support::Step;

/// Throws to itself, and through a function that the compiler could put in its caller's place.
const MODULE: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (tag $oops (param i32))
  (func $seven (result i32) (i32.load (i32.const 0)))
  (func $throws (throw $oops (i32.add (call $seven) (i32.const 5))))
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 7))
    (call $exit
      (block $caught (result i32)
        (try_table (catch $oops $caught) (call $throws))
        (unreachable)))))"#;

#[test]
fn an_exception_is_caught() {
    assert_eq!(Step::wat(MODULE).run().code(), 12);
}

#[test]
fn an_exception_that_nothing_catches_is_a_trap() {
    let module = MODULE.replace("(catch $oops $caught)", "");
    let ended = Step::wat(&module).run();
    assert_eq!(ended.code(), 134, "{ended:?}");
    assert!(ended.stderr.contains("exception"), "{}", ended.stderr);
}
