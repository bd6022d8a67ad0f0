//! The way from the kernel into this program, which every step takes.
//!
//! With glibc it leads past what Rust does before `main`: looking for the stack's end in
//! `/proc/self/maps` and mapping a stack for the handler of its overflow took 65 of the 440 µs in
//! which a program that does nothing starts. What is needed of it is done here.

use warmstep_wire::exit;

/// What libc calls. `std::env::args_os` does not need the arguments: with glibc they reach it in
/// another way.
#[cfg(all(target_env = "gnu", not(test)))]
#[allow(unsafe_code, reason = "the symbol is libc's to call, and nothing else is called main")]
#[unsafe(no_mangle)]
extern "C" fn main(_count: std::ffi::c_int, _arguments: *const *const u8) -> std::ffi::c_int {
    enter(crate::warmstep).into()
}

/// Runs the program with three open standard streams; a panic is an internal failure, as documented.
pub(crate) fn enter(program: fn() -> u8) -> u8 {
    if !open_standard_streams() {
        return exit::INTERNAL;
    }
    std::panic::catch_unwind(program).unwrap_or(exit::INTERNAL)
}

/// Puts `/dev/null` in the place of standard streams that are closed. Otherwise the connection to
/// the agent would take their place, and the module's output go to the agent.
fn open_standard_streams() -> bool {
    use rustix::fs::{Mode, OFlags};
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    // The kernel gives out the lowest free number, so they are filled from below.
    streams.iter().all(|stream| match rustix::io::fcntl_getfd(stream) {
        Err(rustix::io::Errno::BADF) => {
            let opened = rustix::fs::open(c"/dev/null", OFlags::RDWR, Mode::empty());
            // It stays open to the end of the program and beyond.
            opened.map(std::os::fd::IntoRawFd::into_raw_fd).is_ok()
        }
        _ => true,
    })
}
