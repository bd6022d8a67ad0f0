//! What cannot be run, and how that is said: one line, the exit code, the outcome.

mod support;

use std::process::{Command, Stdio};

use support::{Ended, RUNNER, Step};

fn refused(text: &str) -> Ended {
    let ended = Step::wat(text).run();
    assert_eq!(ended.code(), 126, "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert_eq!(ended.outcome().code, 126);
    assert_eq!(
        ended.stderr,
        format!("warmstep: {}\n", ended.outcome().reason.as_deref().expect("why"))
    );
    ended
}

#[test]
fn a_module_without_start_is_no_command() {
    for text in [
        r#"(module (func (export "_start") (param i32)))"#,
        r#"(module (func (export "_start") (result i32) (i32.const 0)))"#,
    ] {
        assert!(refused(text).stderr.contains("`_start`"), "{text}");
    }
}

#[test]
fn unknown_imports_are_named() {
    let text = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
      (import "wasix_32v1" "thread_spawn_v2" (func (param i32 i32) (result i32)))
      (import "env" "memory" (memory 1))
      (import "env" "puts" (func (param i32)))
      (import "wasi_snapshot_preview2" "fd_write" (func))
      (func (export "_start")))"#;
    let ended = refused(text);
    for name in
        ["wasix_32v1.thread_spawn_v2", "env.memory", "env.puts", "wasi_snapshot_preview2.fd_write"]
    {
        assert!(ended.stderr.contains(name), "{name}: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("preview1.fd_write"));
}

#[test]
fn many_unknown_imports_are_counted() {
    let imports: String =
        (0..50).map(|number| format!("(import \"env\" \"f{number}\" (func))")).collect();
    let ended = refused(&format!("(module {imports} (func (export \"_start\")))"));
    assert!(
        ended.stderr.contains("env.f0") && ended.stderr.contains("and 42 more"),
        "{}",
        ended.stderr
    );
}

#[test]
fn an_import_of_another_type_is_named_with_both() {
    let text = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i64) (result i32)))
      (func (export "_start")))"#;
    let ended = refused(text);
    assert!(ended.stderr.contains("wasi_snapshot_preview1.fd_write"), "{}", ended.stderr);
    assert!(ended.stderr.contains("I64") && ended.stderr.contains("I32"), "{}", ended.stderr);
}

#[test]
fn a_module_without_memory_gets_an_error_number() {
    let text = r#"(module
      (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (func (export "_start") (call $exit (call $random (i32.const 0) (i32.const 0)))))"#;
    assert_eq!(Step::wat(text).run().code(), 21, "EFAULT");
}

#[test]
fn what_is_no_artifact_is_an_internal_failure() {
    let good = support::contents(&artifact());
    let cases: [&[u8]; 5] =
        [b"", b"\0asm\x01\0\0\0", &[7; 100_000], &good[..good.len() / 2], &good[..40]];
    for bytes in cases {
        let artifact = support::artifact::Artifact { module: support::memfd(bytes), image: None };
        let ended = Step::artifact(artifact).run();
        assert_eq!(ended.code(), 125, "{} bytes: {ended:?}", bytes.len());
        assert!(ended.stderr.contains("compiled module"), "{}", ended.stderr);
        assert_eq!(ended.outcome().code, 125);
    }
}

/// A good artifact's path.
fn artifact() -> std::path::PathBuf {
    use std::os::fd::AsRawFd;
    let wasm = wat::parse_str(r#"(module (func (export "_start")))"#).expect("valid");
    let artifact = support::artifact::compile(&wasm);
    std::fs::read_link(format!("/proc/self/fd/{}", artifact.module.as_raw_fd())).expect("a file")
}

#[test]
fn arguments_that_are_no_descriptors_are_refused() {
    let cases: [&[&str]; 8] = [
        &[],
        &["3"],
        &["0", "1", "2"],
        &["3", "3", "3"],
        &["a", "b", "c"],
        &["-1", "-2", "-3"],
        &["900", "901", "902"],
        &["3", "4", "99999999999999999999"],
    ];
    for arguments in cases {
        let output = Command::new(RUNNER)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the runner starts");
        assert_eq!(output.status.code(), Some(125), "{arguments:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.starts_with("warmstep: ") && stderr.contains("warmstep run"), "{stderr}");
    }
}

#[test]
fn a_plan_that_is_none_is_an_internal_failure() {
    for bytes in [&b""[..], b"garbage", &[0x88; 4096], &[0xff; 3 << 20]] {
        let text = r#"(module (func (export "_start")))"#;
        let ended = Step::wat(text).plan_bytes(bytes).run();
        assert_eq!(ended.code(), 125, "{ended:?}");
        assert!(ended.stderr.contains("plan"), "{}", ended.stderr);
        assert_eq!(ended.outcome().code, 125);
    }
}
