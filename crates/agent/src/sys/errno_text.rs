//! Error numbers as text: `ENOENT (No such file or directory)`.

use super::Errno;
use std::fmt;

/// Defines [`Errno::name`] for the errors that calls of the agent, or of an image's init, may return.
macro_rules! names {
    ($($name:ident)*) => {
        impl Errno {
            /// The error's symbolic name, as `errno(3)` lists it.
            fn name(self) -> Option<&'static str> {
                match self.0 {
                    $(libc::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

names! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT
    ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG
    ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP
    ELIBACC ELIBBAD ENODATA EOVERFLOW EUSERS ENOTSUP ETIMEDOUT ESTALE ECANCELED ENOKEY EKEYREJECTED
}

impl Errno {
    /// The description that the C library has for the error.
    pub(crate) fn text(self) -> String {
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        match text.find(" (os error") {
            Some(end) => text[..end].to_owned(),
            None => text,
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.text()),
            None => write!(f, "errno {} ({})", self.0, self.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_name_and_the_words_of_the_c_library() {
        assert_eq!(
            Errno(libc::ENOEXEC).to_string(),
            "ENOEXEC (Exec format error)"
        );
        assert_eq!(Errno::NOENT.text(), "No such file or directory");
        assert!(Errno(4000).to_string().starts_with("errno 4000 ("));
    }
}
