//! Namespaces, capabilities and ids, which one process can take over from another.

#![expect(unsafe_code, reason = "namespace and credential calls of the kernel")]

use super::{Sys, check};
use std::os::fd::RawFd;

/// `unshare(2)`.
pub(crate) fn unshare(flags: i32) -> Sys<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// `setns(2)`.
pub(crate) fn enter(namespace: RawFd) -> Sys<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::setns(namespace, 0) }).map(drop)
}

/// Sets the capabilities: effective, permitted, inheritable.
pub(crate) fn set_capabilities(sets: [u64; 3]) -> Sys<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let halves =
        |shift: u32| sets.map(|set| u32::try_from((set >> shift) & 0xffff_ffff).unwrap_or(0));
    let data = [halves(0), halves(32)];
    // SAFETY: a header and two data structures, as version 3 has them.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(drop)
}

/// Keeps the permitted capabilities when the user changes.
pub(crate) fn keep_capabilities() {
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) };
}

/// Sets real, effective and saved ids, and groups, of this thread.
pub(crate) fn set_ids(uids: [u32; 3], gids: [u32; 3], groups: &[u32]) -> Sys<()> {
    // SAFETY: the list is valid for its length. Bare calls, for this thread alone.
    unsafe {
        let _ = libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr());
        check(libc::syscall(
            libc::SYS_setresgid,
            gids[0],
            gids[1],
            gids[2],
        ))?;
        check(libc::syscall(
            libc::SYS_setresuid,
            uids[0],
            uids[1],
            uids[2],
        ))?;
    }
    Ok(())
}
