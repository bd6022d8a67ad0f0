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

/// How this process was started, for the runner to find.
pub(crate) struct Inherited {
    pipe: Option<SigAction>,
}

/// Makes SIGINT and SIGTERM end this process with 130 and 143, also where it is a container's first
/// process, to which signals without a handler do not come; and keeps a log that nobody reads from
/// ending it.
///
/// A signal that is ignored stays ignored: the caller wants it so (`nohup`, a shell's background
/// job). The handlers need no removal, because `execve(2)` resets them and no moment is left
/// unhandled.
pub(crate) fn prepare() -> Inherited {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        if let Some(previous) = set(signal, SigHandler::Handler(die))
            && matches!(previous.handler(), SigHandler::SigIgn)
        {
            set(signal, SigHandler::SigIgn);
        }
    }
    Inherited { pipe: set(Signal::SIGPIPE, SigHandler::SigIgn) }
}

impl Inherited {
    /// Puts back what would outlive `execve(2)`.
    pub(crate) fn restore(&self) {
        if let Some(pipe) = &self.pipe {
            set(Signal::SIGPIPE, pipe.handler());
        }
    }
}

fn set(signal: Signal, handler: SigHandler) -> Option<SigAction> {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the only function that is ever installed is `die`, which calls only what
    // signal-safety(7) allows.
    unsafe { sigaction(signal, &action) }.ok()
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
