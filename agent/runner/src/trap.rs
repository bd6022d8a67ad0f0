//! What the user sees of a module that trapped.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use warmstep_image::Image;
use wasmer::RuntimeError;
use wasmer::sys::vm::TrapCode;

/// The most frames of a backtrace that are printed.
const FRAMES: usize = 64;

/// Where the names of the module's functions are: the compiler took them out of the Wasm.
static NAMES: OnceLock<Arc<Image>> = OnceLock::new();

/// Remembers where the names of the module's functions are.
pub(crate) fn names_are_in(image: Arc<Image>) {
    let _ = NAMES.set(image);
}

/// What went wrong, in one line.
pub(crate) fn reason(error: &RuntimeError) -> String {
    let what = match error.clone().to_trap() {
        Some(TrapCode::StackOverflow) => "its calls are nested too deeply (stack overflow)",
        Some(TrapCode::UnreachableCodeReached) => "it executed an unreachable instruction",
        Some(TrapCode::HeapAccessOutOfBounds) => "it accessed memory out of bounds",
        Some(TrapCode::TableAccessOutOfBounds) => "it accessed a table out of bounds",
        Some(TrapCode::IndirectCallToNull) => "it called a function through a null reference",
        Some(TrapCode::BadSignature) => "it called a function with another signature",
        Some(TrapCode::IntegerOverflow) => "integer overflow",
        Some(TrapCode::IntegerDivisionByZero) => "integer division by zero",
        Some(TrapCode::BadConversionToInteger) => "a number does not fit into an integer",
        Some(TrapCode::UncaughtException) => "it threw an exception that nothing caught",
        Some(code) => return format!("the module trapped: {}", code.message()),
        None => return format!("the module trapped: {}", error.message()),
    };
    format!("the module trapped: {what}")
}

/// The Wasm backtrace, the innermost call first, one line a frame.
pub(crate) fn backtrace(error: &RuntimeError) -> String {
    let frames = error.trace();
    // A backtrace without names is better than none.
    let names = NAMES.get().and_then(|image| image.names().ok());
    let mut text = String::new();
    for (number, frame) in frames.iter().take(FRAMES).enumerate() {
        let name = names.as_ref().and_then(|names| names.get(frame.func_index()));
        let name = name.or(frame.function_name()).unwrap_or("<unnamed>");
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "  {number:>3}: {name} (function {}, offset {:#x})",
            frame.func_index(),
            frame.module_offset(),
        );
    }
    if frames.len() > FRAMES {
        let _ = writeln!(text, "       and {} more", frames.len() - FRAMES);
    }
    text
}
