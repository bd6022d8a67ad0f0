//! Compiles generated modules with the real compiler, loads them as the runner does, and compares
//! what they do with what the same modules do when nothing is taken out of them.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use arbitrary::Unstructured;
use warmstep_image::Image;
use warmstep_image::load::{Backed, load};
use wasm_smith::Config;
use wasmer::sys::{
    BaseTunables, CompilerConfig, Cranelift, EngineBuilder, NativeEngineExt, Target,
};
use wasmer::{
    Engine, Extern, ExternType, Function, FunctionType, Global, Imports, Instance, Memory, Module,
    Store, Table, Type, Value,
};

/// How many modules are tried, unless the environment says otherwise.
const MODULES: u64 = 250;

/// How much a module may compute.
const FUEL: u32 = 1_000;

/// What a module did.
#[derive(Debug, PartialEq)]
struct Deed {
    /// Whether it could be instantiated.
    instantiated: bool,
    /// Its memory as it was then.
    fresh: Vec<u8>,
    /// Whether it ended without a trap.
    ended: bool,
    /// Its memory after that.
    used: Vec<u8>,
}

/// Numbers that are as good as random, and the same every time.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

fn generate(seed: u64) -> Option<Vec<u8>> {
    let exports = r#"(module (func (export "_start")) (memory (export "memory") 1))"#;
    let config = Config {
        allow_start_export: true,
        bulk_memory_enabled: true,
        canonicalize_nans: true,
        exceptions_enabled: false,
        exports: Some(wat::parse_str(exports).expect("the test's own text is right")),
        gc_enabled: false,
        generate_custom_sections: true,
        max_data_segments: 40,
        max_imports: 4,
        max_memories: 2,
        max_memory32_bytes: 1 << 20,
        max_table_elements: 1_000,
        memory64_enabled: false,
        min_data_segments: 3,
        relaxed_simd_enabled: false,
        simd_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        ..Config::default()
    };
    let bytes = noise(seed, 40_000);
    let mut module = wasm_smith::Module::new(config, &mut Unstructured::new(&bytes)).ok()?;
    module.ensure_termination(FUEL).ok()?;
    Some(module.to_bytes())
}

/// Everything a module imports, of the simplest kind.
fn imports(store: &mut Store, module: &Module) -> Imports {
    let mut imports = Imports::new();
    for import in module.imports() {
        let item: Extern = match import.ty() {
            ExternType::Function(ty) => nothing(store, ty).into(),
            ExternType::Global(ty) if ty.mutability.is_mutable() => {
                Global::new_mut(store, zero(ty.ty)).into()
            }
            ExternType::Global(ty) => Global::new(store, zero(ty.ty)).into(),
            ExternType::Memory(ty) => Memory::new(store, *ty).expect("there is room").into(),
            ExternType::Table(ty) => {
                Table::new(store, *ty, zero(ty.ty)).expect("there is room").into()
            }
            ExternType::Tag(_) => panic!("no tags are generated"),
        };
        imports.define(import.module(), import.name(), item);
    }
    imports
}

fn nothing(store: &mut Store, ty: &FunctionType) -> Function {
    let results: Vec<Value> = ty.results().iter().map(|ty| zero(*ty)).collect();
    Function::new(store, ty, move |_| Ok(results.clone()))
}

fn zero(ty: Type) -> Value {
    match ty {
        Type::I32 => Value::I32(0),
        Type::I64 => Value::I64(0),
        Type::F32 => Value::F32(0.0),
        Type::F64 => Value::F64(0.0),
        Type::V128 => Value::V128(0),
        Type::FuncRef => Value::FuncRef(None),
        Type::ExternRef => Value::ExternRef(None),
        Type::ExceptionRef => Value::ExceptionRef(None),
    }
}

fn run(engine: Engine, module: &Module) -> Deed {
    let mut store = Store::new(engine);
    let imports = imports(&mut store, module);
    let mut deed = Deed { instantiated: false, fresh: Vec::new(), ended: false, used: Vec::new() };
    let Ok(instance) = Instance::new(&mut store, module, &imports) else { return deed };
    deed.instantiated = true;
    let memory = instance.exports.get_memory("memory").expect("it is exported");
    let contents =
        |store: &Store| memory.view(store).copy_to_vec().expect("all of it is there to be read");
    deed.fresh = contents(&store);
    let start = instance.exports.get_function("_start").expect("it is exported");
    deed.ended = start.call(&mut store, &[]).is_ok();
    deed.used = contents(&store);
    deed
}

/// Cranelift, in this process, with all the data where it was. wasmer does not know all that is
/// valid: a table's elements that are imported globals, for one.
fn whole(wasm: &[u8]) -> Option<Deed> {
    let mut features = wasmer::sys::Features::default();
    features.threads(false);
    let config: Box<dyn CompilerConfig> = Box::new(Cranelift::new());
    let builder = EngineBuilder::new(config).set_target(Some(Target::default()));
    let engine: Engine = builder.set_features(Some(features)).engine().into();
    let module = Module::new(&engine, wasm).ok()?;
    Some(run(engine, &module))
}

/// What the compiler made, loaded as the runner does.
fn apart(out: &Path) -> (Deed, bool) {
    let mut engine: Engine = EngineBuilder::headless().engine().into();
    let image = File::open(out.join("image")).ok();
    let image = image.map(|file| Arc::new(Image::open(file.into()).expect("it was just made")));
    let taken = image.as_ref().is_some_and(|image| !image.runs().is_empty());
    // SAFETY: there is one instance, and nobody touches the files while it lives.
    engine.set_tunables(unsafe { Backed::new(BaseTunables::new(), image) });
    let file = File::open(out.join("module")).expect("the compiler made it");
    // SAFETY: the compiler has just made it, and nobody touches it while it lives.
    let module = unsafe { load(&engine, file.as_fd()) }.expect("it was just made");
    (run(engine, &module), taken)
}

/// Compiles a module, and says whether that can be done.
fn compile(wasm: &Path, tier: &str, out: &Path) -> bool {
    let output = Command::new(env!("CARGO_BIN_EXE_warmstep-compile"))
        .args(["--threads", "1", "--tier", tier, "--out"])
        .arg(out)
        .stdin(File::open(wasm).expect("it was just written"))
        .stdout(Stdio::null())
        .output()
        .expect("it starts");
    let reports = String::from_utf8_lossy(&output.stderr);
    let refused = reports.contains(r#"{"report":"failed","#);
    assert!(output.status.success() != refused, "{tier}: {reports}");
    !refused
}

#[test]
fn generated_modules_do_the_same() {
    let modules = std::env::var("WARMSTEP_MODULES").ok().and_then(|count| count.parse().ok());
    let (mut taken, mut instantiated, mut tried) = (0, 0, 0);
    for seed in 0..modules.unwrap_or(MODULES) {
        let Some(wasm) = generate(seed) else { continue };
        tried += 1;
        let expected = whole(&wasm);
        instantiated += u32::from(expected.as_ref().is_some_and(|deed| deed.instantiated));
        for tier in ["baseline", "optimized"] {
            let scratch = tempfile::tempdir().expect("there is room");
            let (file, out) = (scratch.path().join("wasm"), scratch.path().join("out"));
            std::fs::write(&file, &wasm).expect("there is room");
            std::fs::create_dir(&out).expect("there is room");
            if !compile(&file, tier, &out) {
                assert!(expected.is_none(), "module {seed}, {tier}");
                continue;
            }
            let (deed, some) = apart(&out);
            taken += u32::from(some && deed.instantiated);
            // Memories are long; which module it is says more.
            assert!(Some(deed) == expected, "module {seed} differs, {tier}");
        }
    }
    println!("{tried} modules, {instantiated} instantiated, {taken} taken apart");
    assert!(tried > 0 && instantiated * 2 > tried, "{instantiated} of {tried} can be instantiated");
    assert!(taken > tried / 4, "of {tried} modules, only {taken} had something to take out");
}
