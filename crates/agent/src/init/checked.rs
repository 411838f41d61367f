//! Return values of system calls as [`io::Result`], and strings for them.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;

/// -1 becomes the `errno`.
pub(crate) fn checked<T: PartialEq + From<i8>>(returned: T) -> io::Result<T> {
    if returned == T::from(-1) { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// A path or name as the kernel takes it; `EINVAL` for one with a NUL inside.
pub(crate) fn c_string(text: impl AsRef<OsStr>) -> io::Result<CString> {
    CString::new(text.as_ref().as_bytes())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
