//! What a module is and asks for, and whether it is one.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};

use wasmer_types::Features;
use wasmparser::{
    BinaryReaderError, ExternalKind, FuncValidatorAllocations, FunctionBody, Import, Parser,
    Payload, TypeRef, ValidPayload, Validator, WasmFeatures,
};

/// The most functions of a module. The largest programs in use (compilers, office suites) have some
/// hundred thousand; each costs the runner, too, at every start.
const MAX_FUNCTIONS: u32 = 300_000;

/// The most locals of one function, parameters not counted: what all engines have agreed upon.
/// <https://webassembly.github.io/spec/js-api/#limits>
const MAX_LOCALS: u64 = 50_000;

/// The most imports of a module. WASI and WASIX together have less than two hundred functions.
const MAX_IMPORTS: usize = 2_000;

/// How many functions a thread validates before it asks for more.
const BATCH: usize = 64;

/// How much of an import's name is kept, in bytes: it is for people to read.
const IMPORT_NAME: usize = 200;

/// The module cannot be a step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    /// It is not valid.
    #[error("the module is not valid: {}", said(.0))]
    Invalid(#[from] BinaryReaderError),
    /// It has too many functions.
    #[error("the module has {0} functions, more than the {MAX_FUNCTIONS} that are allowed")]
    Functions(u32),
    /// One of its functions has too many locals.
    #[error("function {function} has {locals} locals, more than the {MAX_LOCALS} that are allowed")]
    Locals {
        /// Its index, imports included.
        function: u32,
        /// How many it has.
        locals: u64,
    },
    /// It wants too much of the host.
    #[error("the module has {0} imports, more than the {MAX_IMPORTS} that are allowed")]
    Imports(usize),
    /// It has a memory for threads, and no way to have any.
    #[error(
        "the module has a shared memory, which is for threads, and preview 1 has none: build it for \
         WASIX, or without threads"
    )]
    Shared,
    /// It is a library.
    #[error(
        "the module exports no function `_start`: it is a library, not a command; build a program \
         for wasm32-wasip1"
    )]
    NoStart,
}

/// What wasmparser says, without its many lines.
fn said(error: &BinaryReaderError) -> String {
    let cut_off = error.message().contains("unexpected end");
    let hint = if cut_off { "; it is cut off or damaged" } else { "" };
    format!("{} (at byte {:#x}){hint}", error.message(), error.offset())
}

/// What a module is and asks for.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// `module.name` of everything it imports, in its order.
    pub(crate) imports: Vec<String>,
    /// Whether it exports a function `_start`.
    pub(crate) exports_start: bool,
    /// How many linear memories it has, imported ones included.
    pub(crate) memories: u32,
    /// How many functions it defines.
    pub(crate) functions: u32,
    /// Whether its functions have names.
    pub(crate) has_names: bool,
    /// Whether one of its memories can be shared by threads.
    pub(crate) shares_memory: bool,
}

impl Summary {
    /// Refuses what is no command, and what could be shared by nobody.
    pub(crate) fn check(&self) -> Result<(), InspectError> {
        let has_threads =
            |import: &String| import.starts_with("wasix_") || import.starts_with("wasi.");
        if self.shares_memory && !self.imports.iter().any(has_threads) {
            return Err(InspectError::Shared);
        }
        if self.exports_start { Ok(()) } else { Err(InspectError::NoStart) }
    }
}

/// Looks at a module, and checks everything but its functions' bodies.
pub(crate) fn inspect(wasm: &[u8], features: &Features) -> Result<Summary, InspectError> {
    let mut inspector = Inspector::default();
    let mut validator = Validator::new_with_features(wasm_features(features));
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        // Limits come first: they keep the validator's own work small.
        inspector.look(&payload)?;
        validator.payload(&payload)?;
    }
    Ok(inspector.summary)
}

/// Checks everything, the functions' bodies too, with so many threads.
pub(crate) fn validate(
    wasm: &[u8],
    features: &Features,
    threads: NonZero<usize>,
) -> Result<(), InspectError> {
    let mut validator = Validator::new_with_features(wasm_features(features));
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        if let ValidPayload::Func(function, body) = validator.payload(&payload?)? {
            bodies.push((function, body));
        }
    }
    let bodies = Mutex::new(bodies.into_iter());
    let work = || {
        let mut allocations = FuncValidatorAllocations::default();
        loop {
            let some: Vec<_> = {
                let mut bodies = bodies.lock().unwrap_or_else(PoisonError::into_inner);
                bodies.by_ref().take(BATCH).collect()
            };
            if some.is_empty() {
                return Ok(());
            }
            for (function, body) in some {
                let mut function = function.into_validator(allocations);
                function.validate(&body)?;
                allocations = function.into_allocations();
            }
        }
    };
    let results: Vec<Result<(), BinaryReaderError>> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.get()).map(|_| scope.spawn(work)).collect();
        let own = work();
        others.into_iter().map(crate::joined).chain([own]).collect()
    });
    // Whichever thread was faster, it is the same error every time.
    let errors = results.into_iter().filter_map(Result::err);
    match errors.min_by_key(BinaryReaderError::offset) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

#[derive(Default)]
struct Inspector {
    summary: Summary,
    imported_functions: u32,
    bodies: u32,
}

impl Inspector {
    fn look(&mut self, payload: &Payload<'_>) -> Result<(), InspectError> {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    self.import(&import?)?;
                }
            }
            Payload::FunctionSection(section) => {
                self.summary.functions = section.count();
                if section.count() > MAX_FUNCTIONS {
                    return Err(InspectError::Functions(section.count()));
                }
            }
            Payload::MemorySection(section) => {
                self.summary.memories += section.count();
                for memory in section.clone() {
                    self.summary.shares_memory |= memory?.shared;
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    self.summary.exports_start |=
                        export.name == "_start" && export.kind == ExternalKind::Func;
                }
            }
            Payload::CodeSectionEntry(body) => self.body(body)?,
            Payload::CustomSection(section) => self.summary.has_names |= section.name() == "name",
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, import: &Import<'_>) -> Result<(), InspectError> {
        match import.ty {
            TypeRef::Func(_) | TypeRef::FuncExact(_) => self.imported_functions += 1,
            TypeRef::Memory(memory) => {
                self.summary.memories += 1;
                self.summary.shares_memory |= memory.shared;
            }
            _ => {}
        }
        let name = format!("{}.{}", import.module, import.name);
        self.summary.imports.push(shortened(name));
        let count = self.summary.imports.len();
        if count > MAX_IMPORTS { Err(InspectError::Imports(count)) } else { Ok(()) }
    }

    fn body(&mut self, body: &FunctionBody<'_>) -> Result<(), InspectError> {
        let mut locals: u64 = 0;
        for group in body.get_locals_reader()? {
            let (count, _) = group?;
            locals = locals.saturating_add(u64::from(count));
            if locals > MAX_LOCALS {
                let function = self.imported_functions.saturating_add(self.bodies);
                return Err(InspectError::Locals { function, locals });
            }
        }
        self.bodies += 1;
        Ok(())
    }
}

fn shortened(mut name: String) -> String {
    if let Some((end, _)) = name.char_indices().find(|(at, _)| *at >= IMPORT_NAME) {
        name.truncate(end);
        name.push('…');
    }
    name
}

/// What wasmparser calls what wasmer calls its features; as wasmer itself translates them.
fn wasm_features(features: &Features) -> WasmFeatures {
    // In every module since 2019, and what all of wasmer's compilers can do.
    let mut flags = WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::FLOATS
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::GC_TYPES;
    flags.set(WasmFeatures::BULK_MEMORY, features.bulk_memory);
    flags.set(WasmFeatures::THREADS, features.threads);
    flags.set(WasmFeatures::REFERENCE_TYPES, features.reference_types);
    flags.set(WasmFeatures::MULTI_VALUE, features.multi_value);
    flags.set(WasmFeatures::SIMD, features.simd);
    flags.set(WasmFeatures::TAIL_CALL, features.tail_call);
    flags.set(WasmFeatures::MULTI_MEMORY, features.multi_memory);
    flags.set(WasmFeatures::MEMORY64, features.memory64);
    flags.set(WasmFeatures::EXCEPTIONS, features.exceptions);
    flags.set(WasmFeatures::EXTENDED_CONST, features.extended_const);
    flags.set(WasmFeatures::RELAXED_SIMD, features.relaxed_simd);
    flags.set(WasmFeatures::WIDE_ARITHMETIC, features.wide_arithmetic);
    flags
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
