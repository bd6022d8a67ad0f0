//! Tests of `inspect.rs`.

use super::*;

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the test's own text is right")
}

fn refusal(text: &str) -> String {
    inspect(&wasm(text), &Features::none()).expect_err("it breaks a rule").to_string()
}

#[test]
fn a_module_is_summed_up() {
    let summary = inspect(
        &wasm(
            r#"(module
                (import "wasi_snapshot_preview1" "fd_write"
                    (func (param i32 i32 i32 i32) (result i32)))
                (import "env" "table" (table 1 funcref))
                (memory 1)
                (func $main (export "_start"))
                (func))"#,
        ),
        &Features::default(),
    )
    .expect("it is valid");
    assert_eq!(summary.imports, ["wasi_snapshot_preview1.fd_write", "env.table"]);
    assert_eq!((summary.memories, summary.functions), (1, 2));
    assert!(summary.has_names && summary.exports_start);
    summary.check().expect("it is a command");
}

#[test]
fn a_library_is_no_command() {
    for text in ["(module)", r#"(module (memory (export "_start") 1))"#] {
        let summary = inspect(&wasm(text), &Features::default()).expect("it is valid");
        let error = summary.check().expect_err("it has no such function").to_string();
        assert!(error.contains("_start"), "{error}");
    }
}

#[test]
fn every_truncation_is_an_error_or_a_shorter_module() {
    let whole = wasm(r#"(module (memory 1) (func (export "_start")) (data (i32.const 0) "abc"))"#);
    let mut shorter = 0;
    for length in 8..whole.len() {
        match inspect(&whole[..length], &Features::default()) {
            Ok(summary) => {
                shorter += 1;
                // What is cut between two sections may still be a module, but not this one.
                assert!(summary.functions == 0 || summary.exports_start, "{length} bytes");
            }
            Err(error) => assert!(error.to_string().contains("not valid"), "{error}"),
        }
    }
    assert!(shorter < 8, "{shorter} of them are modules");
}

#[test]
fn limits_are_named() {
    let locals = "(local i64) ".repeat(50_001);
    let error = refusal(&format!("(module (import \"a\" \"b\" (func)) (func {locals}))"));
    assert!(error.contains("function 1 has 50001 locals"), "{error}");
    let imports = r#"(import "env" "f" (func))"#.repeat(2_001);
    let error = refusal(&format!("(module {imports})"));
    assert!(error.contains("2001 imports"), "{error}");
    let functions = "(func)".repeat(300_001);
    let error = refusal(&format!("(module {functions})"));
    assert!(error.contains("300001 functions"), "{error}");
}

#[test]
fn a_billion_locals_cost_nothing() {
    // One function whose header says 4 groups of 2^30 locals: ten bytes each in the module.
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    bytes.extend(b"\x01\x04\x01\x60\0\0\x03\x02\x01\0");
    let mut body = vec![4];
    for _ in 0..4 {
        body.extend(b"\x80\x80\x80\x80\x04\x7f");
    }
    body.push(0x0b);
    let length = u8::try_from(body.len()).expect("it is short");
    bytes.extend([10, length + 2, 1, length]);
    bytes.extend(body);
    let error = inspect(&bytes, &Features::default()).expect_err("it is absurd").to_string();
    assert!(error.contains("1073741824 locals"), "{error}");
}

#[test]
fn shared_memories_are_for_those_who_can_have_threads() {
    let checked = |import: &str| {
        let text = format!(
            r#"(module {import} (import "env" "memory" (memory 1 2 shared))
                (func (export "_start")))"#
        );
        let summary = inspect(&wasm(&text), &Features::default()).expect("it is valid");
        summary.check().map_err(|error| error.to_string())
    };
    let error = checked("").expect_err("it has no threads");
    assert!(error.contains("WASIX"), "{error}");
    assert_eq!(checked(r#"(import "wasix_32v1" "thread_exit" (func (param i32)))"#), Ok(()));
    let spawn = r#"(import "wasi" "thread-spawn" (func (param i32) (result i32)))"#;
    assert_eq!(checked(spawn), Ok(()));
}

#[test]
fn names_of_imports_stay_short() {
    let long = "é".repeat(5_000);
    let summary =
        inspect(&wasm(&format!(r#"(module (import "{long}" "x" (func)))"#)), &Features::default())
            .expect("it is valid");
    assert!(summary.imports[0].len() < IMPORT_NAME + 8);
}
