//! Files below an open directory: creating and describing them without their whole path.

#![expect(unsafe_code, reason = "file calls of the kernel")]

use super::{Errno, Sys, check};
use provium_protocol::message::EntryType;
use provium_protocol::tree::{FileTime, Metadata};
use std::ffi::CStr;
use std::mem;
use std::os::fd::RawFd;

/// What a name in a directory is.
pub(crate) struct EntryStat(libc::stat);

impl EntryStat {
    pub(crate) fn entry_type(&self) -> EntryType {
        super::file::entry_type(self.0.st_mode)
    }

    pub(crate) fn size(&self) -> u64 {
        self.0.st_size.unsigned_abs()
    }

    pub(crate) fn metadata(&self) -> Metadata {
        Metadata {
            perm: self.0.st_mode & 0o7777,
            mtime: self.mtime(),
        }
    }

    pub(crate) fn mtime(&self) -> FileTime {
        FileTime {
            seconds: self.0.st_mtime,
            nanoseconds: u32::try_from(self.0.st_mtime_nsec).unwrap_or(0),
        }
    }
}

/// `fstatat(2)`; links are not followed. An empty name means the open file itself.
pub(crate) fn look(folder: RawFd, name: &CStr) -> Sys<EntryStat> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
    // SAFETY: all-zero is a valid stat, and there is room for it; a terminated string.
    unsafe {
        let mut found = mem::zeroed();
        check(libc::fstatat(folder, name.as_ptr(), &raw mut found, flags))?;
        Ok(EntryStat(found))
    }
}

/// `mkdirat(2)`.
pub(crate) fn make_dir(folder: RawFd, name: &CStr, perm: u32) -> Sys<()> {
    // SAFETY: a terminated string.
    check(unsafe { libc::mkdirat(folder, name.as_ptr(), perm) }).map(drop)
}

/// `symlinkat(2)`.
pub(crate) fn symlink(folder: RawFd, name: &CStr, target: &CStr) -> Sys<()> {
    // SAFETY: terminated strings.
    check(unsafe { libc::symlinkat(target.as_ptr(), folder, name.as_ptr()) }).map(drop)
}

/// `unlinkat(2)`, of what is not a directory.
pub(crate) fn unlink(folder: RawFd, name: &CStr) -> Sys<()> {
    // SAFETY: a terminated string.
    check(unsafe { libc::unlinkat(folder, name.as_ptr(), 0) }).map(drop)
}

/// `unlinkat(2)`, of a directory.
pub(crate) fn remove_dir(folder: RawFd, name: &CStr) -> Sys<()> {
    // SAFETY: a terminated string.
    check(unsafe { libc::unlinkat(folder, name.as_ptr(), libc::AT_REMOVEDIR) }).map(drop)
}

/// `readlinkat(2)` into a buffer; the length. A target that fills the buffer is `ENAMETOOLONG`.
pub(crate) fn read_link(folder: RawFd, name: &CStr, buffer: &mut [u8]) -> Sys<usize> {
    let room = buffer.as_mut_ptr().cast();
    // SAFETY: a terminated string, and a buffer of the length given.
    let len = check(unsafe { libc::readlinkat(folder, name.as_ptr(), room, buffer.len()) })?;
    match len.unsigned_abs() {
        len if len < buffer.len() => Ok(len),
        _ => Err(Errno(libc::ENAMETOOLONG)),
    }
}

/// Sets the time of the last modification, of an open file if the name is empty. Links are not followed.
pub(crate) fn set_time(folder: RawFd, name: &CStr, time: FileTime) -> Sys<()> {
    let times = [
        libc::timespec {
            tv_sec: 0,
            tv_nsec: libc::UTIME_OMIT,
        },
        libc::timespec {
            tv_sec: time.seconds,
            tv_nsec: i64::from(time.nanoseconds),
        },
    ];
    // A null name means the open file itself.
    let (name, flags) = if name.is_empty() {
        (std::ptr::null(), 0)
    } else {
        (name.as_ptr(), libc::AT_SYMLINK_NOFOLLOW)
    };
    let number = libc::SYS_utimensat;
    // SAFETY: a terminated string or null, and two times. Not by the C library's function, which refuses
    // a null name.
    check(unsafe { libc::syscall(number, folder, name, times.as_ptr(), flags) }).map(drop)
}

/// `ftruncate(2)`.
pub(crate) fn set_size(file: RawFd, size: u64) -> Sys<()> {
    let size = i64::try_from(size).map_err(|_| Errno(libc::EFBIG))?;
    // SAFETY: no pointers.
    check(unsafe { libc::ftruncate(file, size) }).map(drop)
}

/// `pwrite(2)` of all of it.
pub(crate) fn write_at(file: RawFd, mut bytes: &[u8], mut offset: u64) -> Sys<()> {
    while !bytes.is_empty() {
        let at = i64::try_from(offset).map_err(|_| Errno(libc::EFBIG))?;
        // SAFETY: the bytes are valid for their length.
        let put = check(unsafe { libc::pwrite(file, bytes.as_ptr().cast(), bytes.len(), at) });
        match put {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(0) => return Err(Errno::IO),
            Ok(put) => {
                bytes = &bytes[put.unsigned_abs()..];
                offset += put.unsigned_abs() as u64;
            }
        }
    }
    Ok(())
}

/// The names in an open directory, in pieces that a buffer holds, without allocating for them.
pub(crate) struct Names<'a> {
    folder: RawFd,
    buffer: &'a mut [u8],
    filled: usize,
    at: usize,
}

impl<'a> Names<'a> {
    pub(crate) fn new(folder: RawFd, buffer: &'a mut [u8]) -> Self {
        Self {
            folder,
            buffer,
            filled: 0,
            at: 0,
        }
    }

    /// The next name, neither `.` nor `..`; `None` at the end.
    pub(crate) fn next(&mut self) -> Sys<Option<&CStr>> {
        /// Where `struct linux_dirent64` has its length and its name.
        const LENGTH: usize = 16;
        const NAME: usize = 19;
        loop {
            if self.at + NAME >= self.filled {
                let (room, len) = (self.buffer.as_mut_ptr(), self.buffer.len());
                // SAFETY: the buffer is valid for its length.
                let got = unsafe { libc::syscall(libc::SYS_getdents64, self.folder, room, len) };
                let got = check(got)?;
                self.filled = usize::try_from(got).unwrap_or(0).min(len);
                self.at = 0;
                if self.filled == 0 {
                    return Ok(None);
                }
            }
            let entry = &self.buffer[self.at..self.filled];
            let len = u16::from_ne_bytes([entry[LENGTH], entry[LENGTH + 1]]);
            let len = usize::from(len).clamp(NAME + 1, entry.len());
            let start = self.at + NAME;
            let end = self.at + len;
            self.at = end;
            let is_name = |name: &CStr| name != c"." && name != c"..";
            let found = CStr::from_bytes_until_nul(&self.buffer[start..end]).is_ok_and(is_name);
            if found {
                let name = CStr::from_bytes_until_nul(&self.buffer[start..end]);
                return name.map(Some).map_err(|_| Errno::IO);
            }
        }
    }
}
