//! Wasm to native code, with wasmer's compilers.

use std::any::Any;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;
use wasmer::sys::{Cranelift, CraneliftOptLevel, Features, Target};
use wasmer_compiler::serialize::{SerializableCompilation, SerializableModule};
use wasmer_compiler::types::function::Compilation;
use wasmer_compiler::types::module::CompileModuleInfo;
use wasmer_compiler::{
    BaseTunables, CompilerConfig as _, Engine, EngineBuilder, ModuleEnvironment, Tunables,
};
use wasmer_types::entity::PrimaryMap;
use wasmer_types::{
    CompilationProgressCallback, CompileError as WasmerError, OwnedDataInitializer,
};

use crate::report::Report;
use crate::symbols;

/// Raised whenever the same Wasm would give other files although no version changed.
const EPOCH: u32 = 7;

/// How much effort goes into the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// Cranelift without optimization: compiles faster, runs slower.
    ///
    /// Wasmer's singlepass would be faster still, but its licence (BUSL-1.1 since 6.0) lets only
    /// sponsors of Wasmer use it in production.
    Baseline,
    /// Cranelift with optimization: compiles slower, runs fast.
    Optimized,
}

/// A module could not be compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    /// The compiler gave up.
    #[error("the module cannot be compiled: {0}")]
    GaveUp(String),
}

/// Compiles a module that was validated, and returns the bytes of the native module.
pub(crate) fn compile(
    wasm: &[u8],
    tier: Tier,
    threads: NonZero<usize>,
) -> Result<Vec<u8>, CompileError> {
    let engine = engine(tier, threads);
    // Modules are hostile, and compilers have assertions.
    let result = catch_unwind(AssertUnwindSafe(|| build(&engine, wasm)));
    match result {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(CompileError::GaveUp(error.to_string())),
        Err(panic) => Err(CompileError::GaveUp(last_words(&*panic))),
    }
}

fn last_words(panic: &(dyn Any + Send)) -> String {
    let words = (panic.downcast_ref::<&str>().copied())
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it breaks the compiler: {}", words.unwrap_or("no reason is given"))
}

/// What `wasmer::Module::new` and `serialize` do, without loading the code into this process, and
/// without their copies, second looks and hash of the module, for which nobody asks; compare
/// `ArtifactBuild::new`.
fn build(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, WasmerError> {
    let translation = ModuleEnvironment::new().translate(wasm).map_err(WasmerError::Wasm)?;
    let state = translation.module_translation_state.as_ref();
    let state = state.ok_or_else(|| gave_up("the module was not translated"))?;
    let inner = engine.inner();
    let compiler = inner.compiler()?;
    let tunables = BaseTunables::new();
    let module = translation.module;
    let data = translation.data_initializers.iter().map(OwnedDataInitializer::new);
    let info = SerializableModule {
        // What is loaded is the image that this becomes a part of.
        compilation: SerializableCompilation::Elf(Vec::new()),
        compile_info: CompileModuleInfo {
            features: inner.features().clone(),
            memory_styles: module.memories.values().map(|it| tunables.memory_style(it)).collect(),
            table_styles: module.tables.values().map(|it| tunables.table_style(it)).collect(),
            module: Arc::new(module),
            function_max_stack_usage: PrimaryMap::new(),
        },
        data_initializers: data.collect(),
        cpu_features: compiler.get_cpu_features_used(engine.target().cpu_features()).as_u64(),
    };
    let blob = info.serialize().map_err(|error| gave_up(&error.to_string()))?;
    let compiled = compiler.compile_module(
        engine.target(),
        &info.compile_info,
        &blob,
        state,
        translation.function_body_inputs,
        Some(&progress()),
    )?;
    let Compilation::Elf { data: mut bytes, .. } = compiled else {
        return Err(gave_up("the compiler made no ELF file"));
    };
    symbols::drop(&mut bytes);
    Ok(bytes)
}

fn gave_up(reason: &str) -> WasmerError {
    WasmerError::Codegen(reason.to_owned())
}

/// What decides about the code: part of a compiled module's key in the cache.
pub(crate) fn identity() -> serde_json::Value {
    let target = Target::default();
    let mut features: Vec<String> =
        target.cpu_features().iter().map(|feature| feature.to_string()).collect();
    features.sort();
    let settings = |tier| {
        let engine = engine(tier, NonZero::<usize>::MIN);
        format!("{} {}", engine.deterministic_id(), engine.artifact_format())
    };
    serde_json::json!({
        "compiler": env!("CARGO_PKG_VERSION"),
        "wasmer": wasmer_types::VERSION,
        "epoch": EPOCH,
        "target": target.triple().to_string(),
        "cpu_features": features,
        "page_size": rustix::param::page_size(),
        "baseline": settings(Tier::Baseline),
        "optimized": settings(Tier::Optimized),
    })
}

fn engine(tier: Tier, threads: NonZero<usize>) -> Engine {
    // The host's own features: the code never leaves this node, and they are part of its key.
    let target = Some(Target::default());
    let mut config = Cranelift::new();
    config.num_threads(threads);
    config.opt_level(match tier {
        Tier::Baseline => CraneliftOptLevel::None,
        Tier::Optimized => CraneliftOptLevel::Speed,
    });
    // An ELF file is mapped where the other form is copied, so that a start costs only the pages that
    // it uses. Nothing in its text is relocated when it is loaded.
    config.experimental_artifact(true);
    config.enable_pic();
    EngineBuilder::new(config).set_target(target).set_features(Some(features())).engine()
}

/// What a module may use: what is standard and the compiler knows.
///
/// Threads are for WASIX: `inspect` refuses a shared memory in any other module.
pub(crate) fn features() -> Features {
    let mut features = Features::default();
    features.threads(true).exceptions(true).relaxed_simd(true).wide_arithmetic(true);
    features
}

/// Reports each hundredth of the way, whatever the number of functions.
fn progress() -> CompilationProgressCallback {
    let reported = AtomicU64::new(0);
    CompilationProgressCallback::new(move |progress| {
        let (Some(done), Some(total)) = (progress.phase_step(), progress.phase_step_count()) else {
            return Ok(());
        };
        let percent = done.saturating_mul(100) / total.max(1);
        // Threads overtake each other: only the first to reach a hundredth reports it.
        if reported.fetch_max(percent, Ordering::Relaxed) < percent {
            Report::Progress { done, total }.print();
        }
        Ok(())
    })
}
