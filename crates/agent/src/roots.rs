//! The agent's own view of `/proc`, `/sys` and `/dev`.
//!
//! The machine's init mounts (or does not mount) these where it likes, and a test may unmount them.
//! The agent holds folders of its own, at descriptor numbers that all its processes share.

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
/// What has no fixed number goes from here on.
pub(crate) const FIRST_FREE: RawFd = FIRST_OWN + 4;

/// Takes the folders into use; those that could not be had are left out.
pub(crate) fn install(proc: Sys<OwnedFd>, dev: Sys<OwnedFd>, sys: Sys<OwnedFd>) -> Sys<()> {
    for (folder, number) in [(proc, PROC), (dev, DEV), (sys, SYS)] {
        if let Ok(folder) = folder {
            fd::copy_to(folder.as_raw_fd(), number)?;
        }
    }
    Ok(())
}

/// Takes into use what is mounted at the usual places.
pub(crate) fn install_usual() -> Sys<()> {
    let folder = |name| file::open_str(name, libc::O_PATH | libc::O_DIRECTORY);
    install(folder("/proc"), folder("/dev"), folder("/sys"))
}

/// Something that reads as empty and takes everything.
pub(crate) fn null() -> Sys<OwnedFd> {
    match file::open_str("/dev/null", libc::O_RDWR) {
        // Where `/dev` is empty yet, or `null` is not the device.
        Err(_) => file::open_at(DEV, c"null", libc::O_RDWR, 0),
        found => found,
    }
}

/// Writes a line to the kernel's log, for lack of anybody else to tell.
pub(crate) fn log(line: &str) {
    let text = format!("<4>provium-agent: {line}\n");
    let _: Result<(), Errno> = file::write_at(DEV, "kmsg", text.as_bytes());
}
