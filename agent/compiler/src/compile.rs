//! Wasm to native code, with wasmer's compilers.

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;
use wasmer::Engine;
use wasmer::sys::{
    Cranelift, EngineBuilder, Features, NativeEngineExt, Singlepass, Target,
};
use wasmer_types::CompilationProgressCallback;

use crate::report::Report;

/// Raised whenever the same Wasm would give other native code although no version changed.
const EPOCH: u32 = 1;

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
    /// The input is longer than allowed.
    #[error("the module is longer than the {0} bytes that are allowed")]
    TooLarge(u64),
    /// The input could not be read, or the output not be written.
    #[error("cannot compile: {0}")]
    Io(#[from] std::io::Error),
    /// The module is not valid, or uses what the compiler does not know.
    #[error("{0}")]
    Module(#[from] wasmer::CompileError),
    /// The native code could not be written down.
    #[error("cannot serialize the compiled module: {0}")]
    Serialize(#[from] wasmer::SerializeError),
}

/// Compiles a module for this machine and returns wasmer's serialized form of it.
pub(crate) fn compile(
    wasm: &[u8],
    tier: Tier,
    threads: Option<NonZero<usize>>,
) -> Result<Vec<u8>, CompileError> {
    let engine = engine(tier, threads);
    let module = engine.new_module_with_progress(wasm, progress())?;
    Ok(module.serialize()?.to_vec())
}

/// What decides about the code: part of a compiled module's key in the cache.
pub(crate) fn identity() -> serde_json::Value {
    let target = Target::default();
    let mut features: Vec<String> =
        target.cpu_features().iter().map(|feature| feature.to_string()).collect();
    features.sort();
    serde_json::json!({
        "wasmer": wasmer_types::VERSION,
        "epoch": EPOCH,
        "target": target.triple().to_string(),
        "cpu_features": features,
    })
}

fn engine(tier: Tier, threads: Option<NonZero<usize>>) -> Engine {
    // The host's own features: the code never leaves this node, and they are part of its key.
    let target = Some(Target::default());
    let builder = match tier {
        Tier::Baseline => {
            let mut config = Singlepass::new();
            threads.map(|threads| config.num_threads(threads));
            EngineBuilder::new(config)
        }
        Tier::Optimized => {
            let mut config = Cranelift::new();
            threads.map(|threads| config.num_threads(threads));
            EngineBuilder::new(config)
        }
    };
    builder.set_target(target).set_features(Some(features())).engine().into()
}

/// What a module may use. Threads stay off: a preview 1 step is one thread, and shared memories
/// would let it be more.
fn features() -> Features {
    let mut features = Features::default();
    features.threads(false);
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
        if reported.swap(percent, Ordering::Relaxed) != percent {
            Report::Progress { done, total }.print();
        }
        Ok(())
    })
}
