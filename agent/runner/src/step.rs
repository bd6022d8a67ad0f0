//! One page that sequences a step in its own process, from the arguments to the exit code.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::fd::AsFd;

use warmstep_host::grants::{self, Grant, GrantError, Grants};
use warmstep_host::jail::{self, JailError, Network, Profile};
use warmstep_host::limits::{Budget, Limits, Memories};
use warmstep_host::plan::{self, Lent, PlanError};
use warmstep_host::{ending, load, signals, trap};
use warmstep_image::ImageError;
use warmstep_image::load::LoadError;
use warmstep_wire::exit;
use warmstep_wire::plan::Plan;
use wasmer::sys::{EngineBuilder, NativeEngineExt};
use wasmer::{Engine, FunctionEnv, Store};

use crate::instance::{self, InstanceError};
use crate::preview1::Wasi;

/// Why a step ended without its module having said so.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error(transparent)]
    Jail(#[from] JailError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Instance(#[from] InstanceError),
}

impl StepError {
    /// The exit code for it; see `warmstep_wire::exit`.
    fn code(&self) -> u8 {
        match self {
            Self::Grant(_) => exit::REFUSED,
            Self::Plan(_) | Self::Jail(_) | Self::Load(_) | Self::Image(_) => exit::INTERNAL,
            Self::Instance(InstanceError::Trap(_)) => exit::TRAP,
            Self::Instance(_) => exit::REFUSED,
        }
    }
}

/// Runs the step that the arguments name, and ends the process.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ! {
    ending::started();
    // A fault of ours must not look like the module's, and its place is worth a line.
    std::panic::set_hook(Box::new(|fault| {
        ending::finish(exit::INTERNAL, Some(&format!("internal failure: {fault}")));
    }));
    match step(arguments) {
        Ok(never) => match never {},
        Err(error) => {
            if let StepError::Instance(InstanceError::Trap(error)) = &error {
                // Before the last line, which is the one that is kept.
                eprint!("{}", trap::backtrace(error));
            }
            ending::finish(error.code(), Some(&error.to_string()))
        }
    }
}

/// Does not come back from a module that ends well: nothing is taken down, as the kernel does that
/// faster.
fn step(arguments: impl Iterator<Item = OsString>) -> Result<Infallible, StepError> {
    let lent = Lent::from_arguments(arguments)?;
    ending::prepare(lent.connection);
    signals::prepare();
    let plan = plan::read(lent.plan)?;
    let grants = grants::open(&plan)?;
    // Everything is open, and nothing of the module has been touched.
    let module = Some(lent.module.as_fd());
    let image = lent.image.as_ref().map(AsFd::as_fd);
    let keep: Vec<_> = module.into_iter().chain(image).collect();
    let whole = plan.whole_jail == Some(true);
    jail::confine(&keep, &grants, Network::None, Profile::Preview1, whole)?;
    // Closes what was open for the jail's rules alone.
    let Grants { preopens, rules } = grants;
    drop(rules);

    let memories = Memories::default();
    let mut engine: Engine = EngineBuilder::headless().engine().into();
    let limits = Limits::new(Budget::new(plan.memory), memories.clone());
    engine.set_tunables(load::with_image(limits, lent.image)?);
    let module = load::load(&engine, lent.module)?;
    instance::check(&module)?;

    let mut store = Store::new(engine);
    let wasi = wasi(&plan, preopens, memories, instance::exported_memory(&module));
    let env = FunctionEnv::new(&mut store, wasi);
    let imports = instance::imports(&mut store, &env, &module)?;
    ending::running();
    if plan.timeout > 0 {
        signals::end_after(plan.timeout);
    }
    instance::run(&mut store, &module, &imports)?;
    ending::finish(0, None)
}

fn wasi(plan: &Plan, grants: Vec<Grant>, memories: Memories, exported: Option<usize>) -> Wasi {
    let mut wasi = Wasi::new(grants, memories, exported);
    for argument in &plan.arguments {
        wasi.argument(argument);
    }
    for variable in &plan.environment {
        wasi.variable(&variable.name, &variable.value);
    }
    wasi
}
