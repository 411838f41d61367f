//! Error numbers of the kernel.

#![expect(unsafe_code, reason = "reads the thread's errno")]

/// An error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

/// What a call to the kernel comes to.
pub(crate) type Sys<T> = Result<T, Errno>;

impl Errno {
    pub(crate) const AGAIN: Self = Self(libc::EAGAIN);
    pub(crate) const EXIST: Self = Self(libc::EEXIST);
    pub(crate) const FAULT: Self = Self(libc::EFAULT);
    pub(crate) const INTR: Self = Self(libc::EINTR);
    pub(crate) const INVAL: Self = Self(libc::EINVAL);
    pub(crate) const IO: Self = Self(libc::EIO);
    pub(crate) const NOENT: Self = Self(libc::ENOENT);
    pub(crate) const SRCH: Self = Self(libc::ESRCH);

    /// The number that the last failed call of this thread left.
    pub(crate) fn last() -> Self {
        // SAFETY: the location is the thread's own and always valid.
        Self(unsafe { *libc::__errno_location() })
    }
}

/// What a call returned, or the errno it left when that is negative.
pub(crate) fn check<T: Copy + Default + PartialOrd>(returned: T) -> Sys<T> {
    if returned < T::default() {
        Err(Errno::last())
    } else {
        Ok(returned)
    }
}

/// Repeats a call that signals interrupt.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> Sys<T>) -> Sys<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
