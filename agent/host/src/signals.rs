//! The signals that end a step: its time is over, or someone stops it.
//!
//! Terminating signals are handled although their default would do: as the first process of a
//! container, which has no default dispositions, the step would otherwise not end at all.

use std::sync::atomic::{AtomicPtr, Ordering};

use warmstep_wire::exit;
use warmstep_wire::message::Outcome;

use crate::ending;

/// The outcome of each handled signal, made beforehand: a handler must not allocate.
static OUTCOMES: [(libc::c_int, AtomicPtr<Outcome>); 4] = [
    (libc::SIGTERM, AtomicPtr::new(std::ptr::null_mut())),
    (libc::SIGINT, AtomicPtr::new(std::ptr::null_mut())),
    (libc::SIGHUP, AtomicPtr::new(std::ptr::null_mut())),
    (libc::SIGALRM, AtomicPtr::new(std::ptr::null_mut())),
];

/// Ends the step at once on SIGTERM (143), SIGINT (130) and SIGHUP (129). A reader that is gone is
/// an error number for the module, and no signal.
pub fn prepare() {
    let stops = [
        (libc::SIGTERM, 143, "SIGTERM"),
        (libc::SIGINT, 130, "SIGINT"),
        (libc::SIGHUP, 129, "SIGHUP"),
    ];
    for (signal, code, name) in stops {
        install(signal, code, format!("the step was stopped by {name}"));
    }
    // SAFETY: ignoring a signal runs nothing.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    unblock();
}

/// Ends the step when `timeout` milliseconds have passed.
pub fn end_after(timeout: u64) {
    let reason = format!("the step ran longer than its limit of {} (see --timeout)", time(timeout));
    install(libc::SIGALRM, exit::TIMEOUT, reason);
    let seconds = i64::try_from(timeout / 1000).unwrap_or(i64::MAX);
    let micros = i64::try_from(timeout % 1000 * 1000).unwrap_or(0);
    let timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: seconds, tv_usec: micros },
    };
    // SAFETY: `timer` is read only during the call.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
}

fn time(milliseconds: u64) -> String {
    if milliseconds.is_multiple_of(1000) {
        format!("{} s", milliseconds / 1000)
    } else {
        format!("{milliseconds} ms")
    }
}

/// Lets the handled signals come: whoever started the process may have blocked them, which outlives
/// `exec`.
fn unblock() {
    // SAFETY: the set is initialised before it is used, and the call reads it only while it lasts.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for (signal, _) in &OUTCOMES {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Handles a signal, unless whoever started the process wants it ignored, as `nohup` does.
fn install(signal: libc::c_int, code: u8, reason: String) {
    let Some((_, place)) = OUTCOMES.iter().find(|(number, _)| *number == signal) else { return };
    // It is never freed: the process ends with it.
    place.store(Box::leak(Box::new(ending::outcome(code, Some(reason)))), Ordering::Release);
    // SAFETY: the actions are plain data and fully initialised, and the handler is safe to run at any
    // time. It runs on the alternate stack, because the module's own may be exhausted.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let mut before: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigfillset(&raw mut action.sa_mask);
        libc::sigaction(signal, &raw const action, &raw mut before);
        if before.sa_sigaction == libc::SIG_IGN && signal != libc::SIGALRM {
            libc::sigaction(signal, &raw const before, std::ptr::null_mut());
        }
    }
}

extern "C" fn on_signal(signal: libc::c_int) {
    let place = OUTCOMES.iter().find(|(number, _)| *number == signal);
    let outcome = place.map_or(std::ptr::null_mut(), |(_, place)| place.load(Ordering::Acquire));
    // SAFETY: it is null, or leaked by `install` and used by nobody but this handler, which all
    // signals are blocked for and which never returns.
    if let Some(outcome) = unsafe { outcome.as_mut() } {
        ending::finish_in_handler(outcome);
    }
}
