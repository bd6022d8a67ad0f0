//! `warmstep-run`: see the library of the same package.
//!
//! It begins at C's `main`: what the standard library does before Rust's (it reads `/proc/self/maps`
//! and makes a stack for signals, among others) is a sixth of what a short step's start takes, and
//! serves nothing here.

#![no_main]

/// The process's entry; the C library calls it once.
// SAFETY: no other symbol of this program is called `main`.
#[unsafe(no_mangle)]
extern "C" fn main() -> std::ffi::c_int {
    // On Linux with glibc the arguments are known without Rust's own entry: the C library hands them
    // to an initialiser of the standard library.
    warmstep_runner::run(std::env::args_os().skip(1))
}
