//! Modules that are small and valid, and cost whoever compiles them more than he has.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wasm_encoder::{
    BlockType, CodeSection, ExportKind, ExportSection, Function, FunctionSection, Module,
    TypeSection, ValType,
};

/// However a bomb ends, it ends soon.
const PATIENCE: Duration = Duration::from_secs(60);

/// A module of functions with the same body; the first one is its `_start`.
fn module(functions: u32, body: &Function) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let (mut declared, mut code) = (FunctionSection::new(), CodeSection::new());
    for _ in 0..functions {
        declared.function(0);
        code.function(body);
    }
    let mut exports = ExportSection::new();
    exports.export("_start", ExportKind::Func, 0);
    let mut module = Module::new();
    module.section(&types).section(&declared).section(&exports).section(&code);
    module.finish()
}

/// Loops within loops that change many locals: each local is a value of its own in each loop.
fn loops_and_locals(loops: u32, locals: u32) -> Function {
    let mut function = Function::new([(locals, ValType::I64)]);
    let mut code = function.instructions();
    for _ in 0..loops {
        code.loop_(BlockType::Empty);
    }
    for local in 0..locals {
        code.local_get((local + 1) % locals).i64_const(1).i64_add().local_set(local);
    }
    for _ in 0..loops {
        code.local_get(0).i64_eqz().br_if(0).end();
    }
    code.end();
    function
}

/// Jumps to everywhere, from everywhere.
fn tables(blocks: u32, jumps: u32) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    for _ in 0..blocks {
        code.block(BlockType::Empty);
    }
    let targets: Vec<u32> = (0..blocks).collect();
    for number in 0..jumps {
        code.block(BlockType::Empty);
        code.i32_const(number.cast_signed()).br_table(targets.clone(), 0);
        code.end();
    }
    for _ in 0..blocks {
        code.end();
    }
    code.end();
    function
}

/// How the compiler ended: whether it succeeded, and its last report.
fn compile(wasm: &[u8], arguments: &[&str]) -> (bool, String) {
    let out = tempfile::tempdir().expect("there is room");
    let before = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_warmstep-compile"))
        .arg("--out")
        .arg(out.path())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let wasm = wasm.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&wasm)));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("the writer ends");
    assert!(before.elapsed() < PATIENCE, "it took {:?}", before.elapsed());
    let ok = output.status.success();
    assert!(ok || output.status.code() == Some(1), "{:?}", output.status);
    let reports = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = reports.lines().last().unwrap_or_default().to_owned();
    let left = std::fs::read_dir(out.path()).expect("it is there").count();
    assert!(ok || left == 0, "{left} files are left");
    (ok, last)
}

#[test]
fn a_module_that_wants_all_the_memory_gets_a_reason() {
    let wasm = module(40, &loops_and_locals(200, 2_000));
    let (ok, last) = compile(&wasm, &["--memory", "268435456", "--cpu", "50"]);
    assert!(!ok && last.contains("256 MiB of memory"), "{last}");
}

#[test]
fn a_module_that_wants_all_the_time_gets_a_reason() {
    let wasm = module(400, &loops_and_locals(100, 1_000));
    let before = Instant::now();
    let (ok, last) = compile(&wasm, &["--cpu", "2"]);
    assert!(!ok && last.contains("2 seconds of processor time"), "{last}");
    assert!(before.elapsed() < Duration::from_secs(30));
}

#[test]
fn many_functions_and_large_tables_are_compiled_or_refused() {
    let limits = ["--memory", "1073741824", "--cpu", "40"];
    let mut empty = Function::new([]);
    empty.instructions().end();
    for wasm in [module(50_000, &empty), module(1, &tables(4_000, 300))] {
        for tier in ["baseline", "optimized"] {
            let (ok, last) = compile(&wasm, &[&["--tier", tier], &limits[..]].concat());
            assert!(ok || last.contains(r#"{"report":"#), "{last}");
            println!("{tier}: {last}");
        }
    }
}

#[test]
fn real_limits_leave_room_for_honest_modules() {
    let wasm = module(2_000, &loops_and_locals(3, 10));
    for tier in ["baseline", "optimized"] {
        let arguments = ["--tier", tier, "--memory", "1073741824", "--cpu", "60"];
        let (ok, last) = compile(&wasm, &arguments);
        assert!(ok, "{last}");
    }
}
