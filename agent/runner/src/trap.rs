//! What the user sees of a module that trapped.

use std::fmt::Write;

use wasmer::RuntimeError;
use wasmer::sys::vm::TrapCode;

/// The most frames of a backtrace that are printed.
const FRAMES: usize = 64;

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
    let mut text = String::new();
    for (number, frame) in frames.iter().take(FRAMES).enumerate() {
        let name = frame.function_name().unwrap_or("<unnamed>");
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
