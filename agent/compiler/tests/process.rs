//! The compiler as the agent sees it: a process with a directory, reports and an exit code.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

const HELLO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 8) "hello\n")
    (func $main (export "_start")))"#;

/// What one compilation left.
struct Compiled {
    ok: bool,
    reports: Vec<Value>,
    out: tempfile::TempDir,
}

impl Compiled {
    fn last(&self) -> &Value {
        self.reports.last().expect("there is a report")
    }

    fn reason(&self) -> &str {
        assert!(!self.ok);
        self.last()["reason"].as_str().expect("the last report is a failure")
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.out.path()).expect("the directory is there");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn compile(wasm: &[u8], arguments: &[&str]) -> Compiled {
    let out = tempfile::tempdir().expect("there is room");
    let mut child = Command::new(env!("CARGO_BIN_EXE_warmstep-compile"))
        .arg("--out")
        .arg(out.path())
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let wasm = wasm.to_vec();
    // It may end before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&wasm)));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("the writer ends");
    let stderr = String::from_utf8(output.stderr).expect("reports are UTF-8");
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no report: {line}"));
    Compiled { ok: output.status.success(), reports: stderr.lines().map(parse).collect(), out }
}

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the test's own text is right")
}

#[test]
fn both_tiers_compile_and_report_the_module_first() {
    for tier in ["baseline", "optimized"] {
        let compiled = compile(&wasm(HELLO), &["--tier", tier]);
        assert!(compiled.ok, "{:?}", compiled.reports);
        assert!(compiled.files().contains(&"module".to_owned()));
        let module = &compiled.reports[0];
        assert_eq!(module["report"], "module");
        assert_eq!(module["imports"], serde_json::json!(["wasi_snapshot_preview1.fd_write"]));
        assert_eq!(module["exports_start"], true);
        assert_eq!(module["has_names"], true);
        assert_eq!((&module["memories"], &module["functions"]), (&1.into(), &1.into()));
    }
}

#[test]
fn the_native_module_has_no_symbol_table() {
    use object::elf::{FileHeader64, SHT_SYMTAB};
    use object::read::elf::{FileHeader, SectionHeader};
    for tier in ["baseline", "optimized"] {
        let compiled = compile(&wasm(HELLO), &["--tier", tier]);
        let bytes = std::fs::read(compiled.out.path().join("module")).expect("it was made");
        let header = FileHeader64::<object::LittleEndian>::parse(&*bytes).expect("it is ELF");
        let sections = header.sections(object::LittleEndian, &*bytes).expect("it has sections");
        let kinds = sections.iter().map(|section| section.sh_type(object::LittleEndian));
        assert!(kinds.clone().count() > 5 && kinds.clone().all(|kind| kind != SHT_SYMTAB));
        for name in [&b".w.module_info"[..], b".w.traps", b".debug_line"] {
            let found = sections.section_by_name(object::LittleEndian, name);
            let (_, section) = found.expect("the loader and backtraces need it");
            assert!(section.data(object::LittleEndian, &*bytes).is_ok());
        }
    }
}

#[test]
fn what_is_no_command_is_refused_with_one_line() {
    let truncated = &wasm(HELLO)[..60];
    let cases: [(&[u8], &str); 5] = [
        (b"\x7fELF", "ELF"),
        (b"\0asm\x0d\0\x01\0", "component"),
        (b"\0asm\x01\0\0\0", "_start"),
        (truncated, "not valid"),
        (b"", "no bytes"),
    ];
    for (bytes, word) in cases {
        let compiled = compile(bytes, &[]);
        assert_eq!(compiled.last()["report"], "failed");
        assert!(compiled.reason().contains(word), "{}", compiled.reason());
        assert!(compiled.files().is_empty());
    }
}

#[test]
fn a_library_is_summed_up_before_it_is_refused() {
    let compiled = compile(&wasm(r#"(module (import "env" "f" (func)))"#), &[]);
    assert_eq!(compiled.reports[0]["imports"], serde_json::json!(["env.f"]));
    assert_eq!(compiled.reports[0]["exports_start"], false);
    assert!(compiled.reason().contains("_start"));
}

#[test]
fn a_body_that_does_not_validate_is_refused_by_both_tiers() {
    // An i32 is left where nothing is expected: `wat` does not look.
    let module = wasm(r#"(module (func (export "_start") i32.const 1))"#);
    for tier in ["baseline", "optimized"] {
        let compiled = compile(&module, &["--tier", tier]);
        assert_eq!(compiled.last()["report"], "failed", "{tier}");
        assert!(compiled.reason().contains("not valid"), "{}", compiled.reason());
        assert!(compiled.files().is_empty());
    }
}

#[test]
fn newer_instructions_compile_in_both_tiers() {
    let simd = r#"(module (memory 1) (func (export "_start")
        (v128.store (i32.const 0) (i32x4.add (v128.load (i32.const 16)) (v128.load (i32.const 32))))))"#;
    let throws = r#"(module (tag $t) (func (export "_start")
        (block $caught (try_table (catch $t $caught) (throw $t)))))"#;
    for text in [simd, throws] {
        for tier in ["baseline", "optimized"] {
            let compiled = compile(&wasm(text), &["--tier", tier]);
            assert!(compiled.ok, "{tier}: {:?}", compiled.reports);
        }
    }
}

#[test]
fn a_module_over_the_limit_is_refused() {
    let compiled = compile(&wasm(HELLO), &["--module-bytes", "50"]);
    assert!(compiled.reason().contains("longer than the 50 bytes"), "{}", compiled.reason());
}

#[test]
fn it_says_what_decides_about_its_code() {
    let identify = || {
        let output = Command::new(env!("CARGO_BIN_EXE_warmstep-compile"))
            .arg("--identify")
            .output()
            .expect("it runs");
        assert!(output.status.success());
        output.stdout
    };
    let identity: Value = serde_json::from_slice(&identify()).expect("it is JSON");
    for part in ["wasmer", "epoch", "target", "cpu_features", "baseline", "optimized"] {
        assert!(!identity[part].is_null(), "{part} is missing in {identity}");
    }
    assert_ne!(identity["baseline"], identity["optimized"]);
    assert_eq!(identify(), identify());
}

#[test]
fn an_existing_file_is_not_overwritten() {
    let out = tempfile::tempdir().expect("there is room");
    let kept = out.path().join("module");
    std::fs::write(&kept, "mine").expect("it can be written");
    let status = run_into(out.path());
    assert!(!status);
    assert_eq!(std::fs::read(&kept).expect("it is still there"), b"mine");
    assert!(!run_into(Path::new("/nowhere/to/be/found")));
}

fn run_into(out: &Path) -> bool {
    let mut child = Command::new(env!("CARGO_BIN_EXE_warmstep-compile"))
        .arg("--out")
        .arg(out)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    // One that has nowhere to write does not read.
    let _ = stdin.write_all(&wasm(HELLO));
    drop(stdin);
    child.wait().expect("it ends").success()
}
