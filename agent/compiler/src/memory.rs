//! The allocator, which says why it ends the process.
//!
//! Rust's own last words about memory that is not there are no report. This process has one thing
//! to do, so it need not survive: at its limit it prints the report and exits.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;

/// The last report, written down while there is still memory for it.
static COMPLAINT: OnceLock<String> = OnceLock::new();

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// Keeps memory that was given back, and takes more of it at once than glibc would: a compilation is
/// short, and every page that is taken anew costs a fault.
pub(crate) fn keep() {
    /// Bytes that are taken at once.
    const AT_ONCE: libc::c_int = 4 << 20;
    /// The longest piece that is not given back at once, in bytes; glibc takes no larger number.
    const LONGEST: libc::c_int = 32 << 20;
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_TOP_PAD, AT_ONCE),
        (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
        (libc::M_MMAP_THRESHOLD, LONGEST),
    ] {
        // SAFETY: it sets a number in the allocator, under the allocator's own lock. One that it
        // refuses changes nothing.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Sets the words for when there is no more memory than `limit` bytes.
pub(crate) fn complain_beyond(limit: u64) {
    let mebibytes = limit >> 20;
    let _ = COMPLAINT.set(format!(
        "{{\"report\":\"failed\",\"reason\":\"compiling the module takes more than {mebibytes} MiB \
         of memory (limits.compile_memory)\"}}\n"
    ));
}

/// The system's allocator, without its silence.
struct Limited;

// SAFETY: everything is the system's own allocator, and what it does not do ends the process.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        there(unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        there(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        there(unsafe { System.realloc(ptr, layout, new_size) })
    }
}

fn there(memory: *mut u8) -> *mut u8 {
    match (memory.is_null(), COMPLAINT.get()) {
        (true, Some(complaint)) => give_up(complaint),
        // Without a limit of ours, Rust's own words are the right ones.
        _ => memory,
    }
}

#[cold]
fn give_up(complaint: &str) -> ! {
    // One write, without a lock: the thread that holds it may be this one.
    let _ = rustix::io::write(rustix::stdio::stderr(), complaint.as_bytes());
    // SAFETY: it ends the process at once; what other threads were doing no longer matters.
    unsafe { libc::_exit(1) }
}
