//! Wipes the environment: a variable can hold a secret, and can change what a library does.

use std::ffi::{CStr, c_char};

/// Overwrites every variable with zeros, so that the memory itself no longer tells (nor
/// `/proc/self/environ`), and empties the environment.
///
/// # Safety
///
/// No other thread uses the environment, and each variable's memory can be written.
pub(crate) unsafe fn wipe() {
    // SAFETY: nobody else uses `environ`, which is null or points to an array that null ends.
    let mut variable = unsafe { libc::environ };
    if variable.is_null() {
        return;
    }
    // SAFETY: the array ends with a null pointer, which is not passed.
    while let Some(text) = unsafe { variable.as_mut() }.filter(|text| !text.is_null()) {
        // SAFETY: a variable ends with NUL, can be written, and nobody else uses it.
        unsafe { overwrite(*text) };
        // SAFETY: this was not the array's end, so there is another element.
        variable = unsafe { variable.add(1) };
    }
    // SAFETY: nobody else uses the environment.
    unsafe { libc::clearenv() };
}

/// # Safety
///
/// `text` ends with NUL, can be written, and nobody else uses it.
unsafe fn overwrite(text: *mut c_char) {
    // SAFETY: it ends with NUL.
    let length = unsafe { CStr::from_ptr(text) }.count_bytes();
    // SAFETY: so many bytes are there, and nobody else uses them.
    unsafe { std::ptr::write_bytes(text, 0, length) };
}
