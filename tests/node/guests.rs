//! Small modules that do one thing each, written where they are used.

use warmstep_tests::modules::from_text;

/// The imports and helpers of every guest here.
const HEAD: &str = r#"
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 17)
  (func $say (param $at i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
"#;

fn guest(body: &str) -> Vec<u8> {
    from_text(&format!("(module {HEAD} {body})")).unwrap()
}

/// Says `ready`, sleeps for so many milliseconds, says `done`, and ends with the code.
pub(crate) fn sleeper(milliseconds: u64, code: u8) -> Vec<u8> {
    let nanoseconds = milliseconds * 1_000_000;
    guest(&format!(
        r#"
  (data (i32.const 100) "ready\ndone\n")
  (func (export "_start")
    (call $say (i32.const 100) (i32.const 6))
    ;; a subscription: userdata, tag 0 (clock), clock 1 (monotonic), timeout, precision, flags
    (i32.store (i32.const 216) (i32.const 1))
    (i64.store (i32.const 224) (i64.const {nanoseconds}))
    (drop (call $poll (i32.const 200) (i32.const 300) (i32.const 1) (i32.const 400)))
    (call $say (i32.const 106) (i32.const 5))
    (call $exit (i32.const {code})))"#
    ))
}

/// Prints its arguments, each with its closing NUL.
pub(crate) fn echo() -> Vec<u8> {
    guest(
        r#"
  (func (export "_start")
    (drop (call $args_sizes (i32.const 16) (i32.const 20)))
    (drop (call $args (i32.const 64) (i32.add (i32.const 64)
      (i32.mul (i32.const 4) (i32.load (i32.const 16))))))
    (call $say
      (i32.add (i32.const 64) (i32.mul (i32.const 4) (i32.load (i32.const 16))))
      (i32.load (i32.const 20))))"#,
    )
}

/// Says `tag` and a line break.
pub(crate) fn says(word: &str) -> Vec<u8> {
    guest(&format!(
        r#"
  (data (i32.const 100) "{word}\n")
  (func (export "_start") (call $say (i32.const 100) (i32.const {})))"#,
        word.len() + 1
    ))
}

/// Traps at once.
pub(crate) fn traps() -> Vec<u8> {
    guest(r#"(func $deep unreachable) (func (export "_start") (call $deep))"#)
}

/// Grows its memory by so much, and ends well if that was given.
pub(crate) fn grows(mebibytes: u32) -> Vec<u8> {
    guest(&format!(
        r#"
  (func (export "_start")
    (if (i32.eq (memory.grow (i32.const {})) (i32.const -1)) (then (call $exit (i32.const 3)))))"#,
        mebibytes * 16
    ))
}

/// Never ends.
pub(crate) fn spins() -> Vec<u8> {
    guest(r#"(func (export "_start") (loop $again (br $again)))"#)
}

/// Needs a moment to compile, and none to run: so many functions that nobody calls, and a word.
pub(crate) fn heavy(functions: usize, word: &str) -> Vec<u8> {
    use std::fmt::Write;
    let mut body = String::new();
    for number in 0..functions {
        write!(
            body,
            "(func (export \"f{number}\") (param i64 i64) (result i64) (local i64)
               (local.set 2 (i64.mul (local.get 0) (i64.const {number})))
               (block (loop (br_if 1 (i64.eqz (local.get 1)))
                 (local.set 1 (i64.sub (local.get 1) (i64.const 1)))
                 (local.set 2 (i64.xor (local.get 2) (i64.rotl (local.get 0) (local.get 1))))
                 (br 0)))
               (i64.add (local.get 2) (local.get 0)))"
        )
        .unwrap();
    }
    guest(&format!(
        r#"
  (data (i32.const 100) "{word}\n")
  {body}
  (func (export "_start") (call $say (i32.const 100) (i32.const {})))"#,
        word.len() + 1
    ))
}
