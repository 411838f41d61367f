//! The agent's own view of `/proc`, `/sys` and `/dev`.
//!
//! The guest's init may mount these elsewhere or not at all, and a test may unmount them. The agent
//! keeps folders of its own open, at descriptor numbers that all its processes share.

use crate::sys::{Errno, Sys, fd, file};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Descriptors of the agent start here, well above those that a test's own files get.
pub(crate) const FIRST_OWN: RawFd = 500;
/// An executor's socket to the router.
pub(crate) const SOCKET: RawFd = FIRST_OWN;
/// A folder of `/proc`.
pub(crate) const PROC: RawFd = FIRST_OWN + 1;
/// A folder of `/dev`.
pub(crate) const DEV: RawFd = FIRST_OWN + 2;
/// A folder of `/sys`.
pub(crate) const SYS: RawFd = FIRST_OWN + 3;
/// Descriptors without a fixed number start here.
pub(crate) const FIRST_FREE: RawFd = FIRST_OWN + 4;

/// Moves the folders to their numbers; those that could not be opened are left out.
pub(crate) fn install(proc: Sys<OwnedFd>, dev: Sys<OwnedFd>, sys: Sys<OwnedFd>) -> Sys<()> {
    for (folder, number) in [(proc, PROC), (dev, DEV), (sys, SYS)] {
        if let Ok(folder) = folder {
            fd::copy_to(folder.as_raw_fd(), number)?;
        }
    }
    Ok(())
}

/// Opens what is mounted at the usual places.
pub(crate) fn install_usual() -> Sys<()> {
    let folder = |name| file::open_str(name, libc::O_PATH | libc::O_DIRECTORY);
    install(folder("/proc"), folder("/dev"), folder("/sys"))
}

/// The null device.
pub(crate) fn null() -> Sys<OwnedFd> {
    match file::open_str("/dev/null", libc::O_RDWR) {
        // If `/dev` is still empty, or `null` is not the device.
        Err(_) => file::open_at(DEV, c"null", libc::O_RDWR, 0),
        found => found,
    }
}

/// Sets how this process is rated when the kernel kills one for want of memory: -1000 is never.
pub(crate) fn set_oom_score(score: &str) {
    // An ordinary user may not lower it.
    let _ = file::write_at(PROC, "self/oom_score_adj", score.as_bytes());
}

/// Writes a line to the kernel's log. For what happens before or without a session.
pub(crate) fn log(line: &str) {
    let text = format!("<4>provium-agent: {line}\n");
    let _: Result<(), Errno> = file::write_at(DEV, "kmsg", text.as_bytes());
}
