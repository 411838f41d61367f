//! Calls of an agent that is started in a running system: mounts that do not appear in the tree, locks
//! against a second agent, and waiting.

#![expect(unsafe_code, reason = "mount and wait calls of the kernel")]

use super::{Errno, Sys, check, fd};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

/// `FSCONFIG_CMD_CREATE` of the kernel's `include/uapi/linux/mount.h`.
const CREATE: libc::c_uint = 6;
/// `FSOPEN_CLOEXEC` and `FSMOUNT_CLOEXEC` of the same file.
const CLOSE_ON_EXEC: libc::c_uint = 1;

/// Mounts a file system that needs no device, without attaching it to the tree: it is reached only
/// through the descriptor. Needs Linux 5.2.
pub(crate) fn mount_detached(kind: &CStr) -> Sys<OwnedFd> {
    // SAFETY: a terminated string.
    let context = check(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), CLOSE_ON_EXEC) })?;
    let context = fd::own(i32::try_from(context).map_err(|_| Errno::INVAL)?);
    let number = context.as_raw_fd();
    let none = ptr::null::<libc::c_char>();
    // SAFETY: this command takes neither a key nor a value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, number, CREATE, none, none, 0) })?;
    // SAFETY: no pointers.
    let mount = check(unsafe { libc::syscall(libc::SYS_fsmount, number, CLOSE_ON_EXEC, 0) })?;
    Ok(fd::own(i32::try_from(mount).map_err(|_| Errno::INVAL)?))
}

/// Locks an open file, device nodes included, for as long as this open of it lives.
/// `EBUSY`: another open of it holds the lock.
pub(crate) fn lock(file: &OwnedFd) -> Sys<()> {
    // SAFETY: no pointers.
    match check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Err(Errno::AGAIN) => Err(Errno(libc::EBUSY)),
        other => other.map(drop),
    }
}

/// Sets the umask.
pub(crate) fn set_umask(mask: libc::mode_t) {
    // SAFETY: no pointers, and it cannot fail.
    unsafe { libc::umask(mask) };
}

/// Allows this process, and those that it starts, at least as many open files as the kernel allows its
/// first process.
pub(crate) fn allow_usual_files() -> Sys<()> {
    // `INR_OPEN_CUR` and `INR_OPEN_MAX` of the kernel's `include/uapi/linux/fs.h`.
    let usual = libc::rlimit {
        rlim_cur: 1024,
        rlim_max: 4096,
    };
    let mut limit = usual;
    // SAFETY: room for a limit.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_cur.max(usual.rlim_cur);
    limit.rlim_max = limit.rlim_max.max(usual.rlim_max);
    // SAFETY: a limit.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).map(drop)
}

/// Waits for signals, for as long as the process lives.
pub(crate) fn idle() -> ! {
    loop {
        // SAFETY: no pointers.
        unsafe { libc::pause() };
    }
}
