//! Signals: dying at once while the step waits, and handing the runner a clean slate.

#![allow(unsafe_code, reason = "sigaction(2) has no safe form")]

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Whether the last line of the terminal is a progress bar, which must not outlive us.
static BAR: AtomicBool = AtomicBool::new(false);

/// Notes whether a progress bar is on the terminal.
pub(crate) fn bar_is_visible(visible: bool) {
    BAR.store(visible, Ordering::Relaxed);
}

/// Makes SIGINT and SIGTERM end this process with 130 and 143, also where it is a container's first
/// process, to which signals without a handler do not come.
///
/// What is ignored stays ignored: the caller wants it so (`nohup`, a shell's background job). The
/// handlers need no removal, because `execve(2)` resets them and no moment is left unhandled.
pub(crate) fn die_on_termination() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let handler = SigHandler::Handler(die);
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        // SAFETY: `die` calls only what signal-safety(7) allows.
        let previous = unsafe { sigaction(signal, &action) };
        if let Ok(previous) = previous
            && matches!(previous.handler(), SigHandler::SigIgn)
        {
            // SAFETY: this installs no function.
            let _ = unsafe { sigaction(signal, &previous) };
        }
    }
}

/// Undoes what Rust's start did to this process: a module's output into a closed pipe ends it, as it
/// ends every other program, unless the runner decides otherwise.
pub(crate) fn restore() {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: this installs no function.
    let _ = unsafe { sigaction(Signal::SIGPIPE, &action) };
}

extern "C" fn die(signal: nix::libc::c_int) {
    if BAR.load(Ordering::Relaxed) {
        // The bar's line is emptied, as finishing it would have done.
        let clear = b"\r\x1b[2K";
        // SAFETY: the buffer is as long as it says; write(2) is signal-safe.
        unsafe { nix::libc::write(2, clear.as_ptr().cast(), clear.len()) };
    }
    // SAFETY: _exit(2) is signal-safe, and does not return.
    unsafe { nix::libc::_exit(128 + signal) }
}
