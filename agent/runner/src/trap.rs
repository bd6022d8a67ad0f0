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
        Some(TrapCode::StackOverflow) => "its calls are nested too deeply (stack overflow)".into(),
        Some(TrapCode::UnreachableCodeReached) => "it executed an unreachable instruction".into(),
        Some(TrapCode::HeapAccessOutOfBounds) => "it accessed memory out of bounds".into(),
        Some(code) => code.message().to_owned(),
        None => error.message(),
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
