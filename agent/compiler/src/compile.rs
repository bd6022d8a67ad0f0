//! Wasm to native code, with wasmer's compilers.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;
use wasmer::sys::{
    CompilerConfig, Cranelift, EngineBuilder, Features, NativeEngineExt, Singlepass, Target,
};
use wasmer::{CompileError as WasmerError, Engine};
use wasmer_types::CompilationProgressCallback;

use crate::inspect::{self, InspectError};
use crate::report::Report;

/// Raised whenever the same Wasm would give other native code although no version changed.
const EPOCH: u32 = 2;

/// How much effort goes into the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// Singlepass: compiles fast, runs slower.
    Baseline,
    /// Cranelift: compiles slower, runs fast.
    Optimized,
}

/// A module could not be compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    /// The module is valid, but this tier does not know what it uses.
    #[error("the baseline compiler cannot compile this module: {0}")]
    Unsupported(String),
    /// The module is not valid.
    #[error(transparent)]
    Invalid(#[from] InspectError),
    /// The compiler gave up.
    #[error("the module cannot be compiled: {0}")]
    Compiler(String),
}

/// Compiles a module for this machine and returns wasmer's serialized form of it.
pub(crate) fn compile(
    wasm: &[u8],
    tier: Tier,
    threads: Option<NonZero<usize>>,
) -> Result<Vec<u8>, CompileError> {
    let engine = engine(tier, threads);
    // Modules are hostile: one that breaks the compiler is told apart from a broken compiler only by
    // the words it ends with.
    let result = catch_unwind(AssertUnwindSafe(|| {
        let module = engine.new_module_with_progress(wasm, progress())?;
        module.serialize().map_err(|error| WasmerError::Codegen(error.to_string()))
    }));
    match result {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) => Err(explain(wasm, tier, error)),
        Err(_) => Err(gave_up(tier, "it breaks the compiler".to_owned())),
    }
}

fn explain(wasm: &[u8], tier: Tier, error: WasmerError) -> CompileError {
    match error {
        // What only the optimizing compiler knows is not valid for the other.
        WasmerError::Validate(said) => match inspect::validate(wasm, &features(Tier::Optimized)) {
            Ok(()) => gave_up(tier, said),
            Err(error) => CompileError::Invalid(error),
        },
        error => gave_up(tier, error.to_string()),
    }
}

fn gave_up(tier: Tier, why: String) -> CompileError {
    match tier {
        Tier::Baseline => CompileError::Unsupported(why),
        Tier::Optimized => CompileError::Compiler(why),
    }
}

/// What decides about the code: part of a compiled module's key in the cache.
pub(crate) fn identity() -> serde_json::Value {
    let target = Target::default();
    let mut features: Vec<String> =
        target.cpu_features().iter().map(|feature| feature.to_string()).collect();
    features.sort();
    let settings = |tier| engine(tier, None).deterministic_id();
    serde_json::json!({
        "compiler": env!("CARGO_PKG_VERSION"),
        "wasmer": wasmer_types::VERSION,
        "epoch": EPOCH,
        "target": target.triple().to_string(),
        "cpu_features": features,
        "baseline": settings(Tier::Baseline),
        "optimized": settings(Tier::Optimized),
    })
}

fn engine(tier: Tier, threads: Option<NonZero<usize>>) -> Engine {
    // The host's own features: the code never leaves this node, and they are part of its key.
    let target = Some(Target::default());
    let config: Box<dyn CompilerConfig> = match tier {
        Tier::Baseline => {
            let mut config = Singlepass::new();
            threads.map(|threads| config.num_threads(threads));
            Box::new(config)
        }
        Tier::Optimized => {
            let mut config = Cranelift::new();
            threads.map(|threads| config.num_threads(threads));
            Box::new(config)
        }
    };
    EngineBuilder::new(config).set_target(target).set_features(Some(features(tier))).engine().into()
}

/// What a module may use: what is standard and this tier's compiler knows.
///
/// Threads stay off: a preview 1 step is one thread, and shared memories would let it be more.
pub(crate) fn features(tier: Tier) -> Features {
    let mut features = Features::default();
    features.threads(false);
    if tier == Tier::Optimized {
        features.exceptions(true).relaxed_simd(true).wide_arithmetic(true);
    }
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
