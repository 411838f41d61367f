//! Becoming another program.

#![expect(unsafe_code, reason = "passes pointers to strings to the kernel")]

use super::Errno;
use std::ffi::{CStr, CString, c_char};
use std::ptr;

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|text| text.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// Becomes another program in place. Only returns when it failed.
pub(crate) fn replace(file: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: a terminated string and two terminated lists of such.
    unsafe { libc::execve(file.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Errno::last()
}
