//! What wasmer-wasix runs a step with.

use std::sync::Arc;

use virtual_net::DynVirtualNetworking;
use warmstep_host::{ending, trap};
use warmstep_wire::exit;
use wasmer::{Engine, Function, Imports, Module, RuntimeError, Store, StoreMut};
use wasmer_wasix::runtime::resolver::{MultiSource, Source};
use wasmer_wasix::runtime::{InstantiationState, TaintReason};
use wasmer_wasix::wasmer_wasix_types::wasi::{Errno, ExitCode};
use wasmer_wasix::{Runtime, VirtualTaskManager};

/// The function that makes hard links.
const LINK: &str = "path_link";

/// The runtime of the one step. It knows no registry, has no compiler and makes no HTTP request.
#[derive(Debug)]
pub(crate) struct StepRuntime {
    engine: Engine,
    network: DynVirtualNetworking,
    tasks: Arc<dyn VirtualTaskManager>,
    packages: Arc<MultiSource>,
}

impl StepRuntime {
    /// A runtime with this engine, network and threads.
    pub(crate) fn new(
        engine: Engine,
        network: DynVirtualNetworking,
        tasks: Arc<dyn VirtualTaskManager>,
    ) -> Self {
        Self { engine, network, tasks, packages: Arc::new(MultiSource::new()) }
    }
}

impl Runtime for StepRuntime {
    fn networking(&self) -> &DynVirtualNetworking {
        &self.network
    }

    fn task_manager(&self) -> &Arc<dyn VirtualTaskManager> {
        &self.tasks
    }

    fn source(&self) -> Arc<dyn Source + Send + Sync> {
        Arc::clone(&self.packages) as _
    }

    fn engine(&self) -> Engine {
        self.engine.clone()
    }

    fn new_store(&self) -> Store {
        Store::new(self.engine.clone())
    }

    /// wasmer-wasix would make a hard link in its own memory alone, and the file be lost: its file
    /// systems never hear of it. Better an error.
    fn prepare_imports(
        &self,
        module: &Module,
        store: &mut StoreMut<'_>,
        imports: &mut Imports,
    ) -> anyhow::Result<InstantiationState> {
        for import in module.imports().filter(|import| import.name() == LINK) {
            let refuse = |_: i32, _: i32, _: i32, _: i32, _: i32, _: i32, _: i32| -> i32 {
                i32::from(Errno::Notsup as u16)
            };
            imports.define(import.module(), LINK, Function::new_typed(store, refuse));
        }
        Ok(InstantiationState::empty())
    }

    /// wasmer-wasix calls it before it cleans up, for which it may take ten seconds. The process is
    /// the step: it ends here, with all of its threads.
    fn on_taint(&self, reason: TaintReason) {
        match reason {
            TaintReason::NonZeroExitCode(code) => ending::finish(low_byte(code), None),
            TaintReason::RuntimeError(error) => end_trapped(&error),
            TaintReason::UnknownWasiVersion => {
                ending::finish(exit::REFUSED, Some("the module imports no WASI that is known"))
            }
            TaintReason::DlSymbolResolutionFailed(symbol) => ending::finish(
                exit::REFUSED,
                Some(&format!("the module needs the symbol {symbol:?}, which is not there")),
            ),
        }
    }
}

/// Ends the step of a module that trapped.
pub(crate) fn end_trapped(error: &RuntimeError) -> ! {
    // Before the last line, which is the one that is kept.
    eprint!("{}", trap::backtrace(error));
    ending::finish(exit::TRAP, Some(&trap::reason(error)))
}

/// Linux keeps eight bits of an exit code, as it would of a native program's.
pub(crate) fn low_byte(code: ExitCode) -> u8 {
    let [low, ..] = code.raw().to_le_bytes();
    low
}
