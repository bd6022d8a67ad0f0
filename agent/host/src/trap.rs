//! What the user sees of a module that trapped.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use warmstep_image::Image;
use wasmer::RuntimeError;
use wasmer::sys::vm::TrapCode;

/// The most frames of a backtrace that are printed.
const FRAMES: usize = 64;

/// In a frame's offset: the rest is the index of a function that the compiler has put in place of a
/// call; see `inline.rs` in `agent/compiler/cranelift`.
const INLINED: usize = 1 << 31;

/// Where the names of the module's functions are: the compiler took them out of the Wasm.
static NAMES: OnceLock<Arc<Image>> = OnceLock::new();

/// Remembers where the names of the module's functions are.
pub fn names_are_in(image: Arc<Image>) {
    let _ = NAMES.set(image);
}

/// What went wrong, in one line.
pub fn reason(error: &RuntimeError) -> String {
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
pub fn backtrace(error: &RuntimeError) -> String {
    let frames = error.trace();
    // A backtrace without names is better than none.
    let names = NAMES.get().and_then(|image| image.names().ok());
    let name = |index| names.as_ref().and_then(|names| names.get(index));
    let mut text = String::new();
    let mut number = 0;
    let mut line = |name: Option<&str>, index: u32, place: &str| {
        let name = name.unwrap_or("<unnamed>");
        // Writing into a string does not fail.
        let _ = writeln!(text, "  {number:>3}: {name} (function {index}{place})");
        number += 1;
    };
    for frame in frames.iter().take(FRAMES) {
        let (index, offset) = (frame.func_index(), frame.module_offset());
        let place = match inlined(offset) {
            None => format!(", offset {offset:#x}"),
            Some(inlined) => {
                line(name(inlined), inlined, ", inlined");
                String::new()
            }
        };
        line(name(index).or(frame.function_name()), index, &place);
    }
    if frames.len() > FRAMES {
        let _ = writeln!(text, "       and {} more", frames.len() - FRAMES);
    }
    text
}

/// Which function is in place of a call, where that is what an offset says.
fn inlined(offset: usize) -> Option<u32> {
    // All bits of an offset are set where there is none.
    let index = u32::try_from(offset.checked_sub(INLINED)?).ok()?;
    (offset != u32::MAX as usize).then_some(index)
}
