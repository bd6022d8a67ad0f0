//! From a loaded module to its end: what it imports, what it must export, and how it is started.

use wasmer::{
    ExportIndex, Extern, ExternType, FunctionEnv, FunctionType, Imports, Instance,
    InstantiationError, Module, RuntimeError, Store,
};

use crate::preview1::{Imported, Wasi, import};

/// The most unknown imports that are named.
const NAMED: usize = 8;

/// The module cannot be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstanceError {
    /// It imports what is not there.
    #[error("the module imports what this host does not have: {0}")]
    Unknown(String),
    /// It imports a function of ours as another type.
    #[error("the module imports {name} with the type {found}, but it is {ours}")]
    Mismatch {
        /// `module.name`.
        name: String,
        /// What the module thinks.
        found: FunctionType,
        /// What it is.
        ours: FunctionType,
    },
    /// It is a library.
    #[error("the module has no function `_start` without parameters and results: it is no command")]
    NoStart,
    /// It cannot be instantiated.
    #[error("cannot instantiate the module: {0}")]
    Link(String),
    /// Its start function trapped.
    #[error("{}", warmstep_host::trap::reason(.0))]
    Trap(RuntimeError),
}

/// Which of its own memories a module exports as `memory`.
pub(crate) fn exported_memory(module: &Module) -> Option<usize> {
    let info = module.info();
    match info.exports.get("memory") {
        Some(ExportIndex::Memory(index)) => {
            (index.as_u32() as usize).checked_sub(info.num_imported_memories)
        }
        _ => None,
    }
}

/// Checks that a module is a command.
pub(crate) fn check(module: &Module) -> Result<(), InstanceError> {
    let start = module.exports().find(|export| export.name() == "_start");
    let is_command = start.is_some_and(|export| match export.ty() {
        ExternType::Function(ty) => ty.params().is_empty() && ty.results().is_empty(),
        _ => false,
    });
    if is_command { Ok(()) } else { Err(InstanceError::NoStart) }
}

/// Finds everything that a module imports, and nothing else: a function that is not imported costs
/// nothing at the start.
pub(crate) fn imports(
    store: &mut Store,
    env: &FunctionEnv<Wasi>,
    module: &Module,
) -> Result<Imports, InstanceError> {
    let mut imports = Imports::new();
    let mut unknown = Vec::new();
    for wanted in module.imports() {
        let found = match wanted.ty() {
            ExternType::Function(ty) => import(store, env, wanted.module(), wanted.name(), ty),
            _ => Imported::Unknown,
        };
        let name = || format!("{}.{}", wanted.module(), wanted.name());
        match (found, wanted.ty()) {
            (Imported::Function(function), _) => {
                imports.define(wanted.module(), wanted.name(), Extern::Function(function));
            }
            (Imported::Mismatch(ours), ExternType::Function(found)) => {
                let found = found.clone();
                return Err(InstanceError::Mismatch { name: name(), found, ours });
            }
            _ => unknown.push(name()),
        }
    }
    if unknown.is_empty() { Ok(imports) } else { Err(InstanceError::Unknown(listing(&unknown))) }
}

fn listing(names: &[String]) -> String {
    let mut text = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        text.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    text
}

/// Instantiates a module, which runs its start function, and runs its `_start`.
///
/// A module that calls `proc_exit` never comes back from here.
pub(crate) fn run(
    store: &mut Store,
    module: &Module,
    imports: &Imports,
) -> Result<(), InstanceError> {
    let instance = Instance::new(store, module, imports).map_err(|error| match error {
        InstantiationError::Start(error) => InstanceError::Trap(error),
        error => InstanceError::Link(error.to_string()),
    })?;
    let start = instance.exports.get_typed_function::<(), ()>(store, "_start");
    let start = start.map_err(|_| InstanceError::NoStart)?;
    start.call(store).map_err(InstanceError::Trap)
}
