//! Following the root of process 1.
//!
//! An initial RAM file system ends in a `switch_root`; from then on, a test means the new root. Only
//! a change of process 1's root counts, so a `chroot` that a test made by itself stays.

use crate::roots;
use crate::sys::file::{self, Inode};
use std::os::fd::{AsRawFd, OwnedFd};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Root {
    /// The root of process 1, when it was last looked at.
    seen: Option<Inode>,
}

impl Root {
    /// Takes what process 1 has now for what this process has.
    pub(crate) fn now() -> Self {
        Self { seen: look() }
    }

    /// Whether process 1 has moved since the last look.
    pub(super) fn has_moved(&mut self) -> bool {
        let Some(found) = look() else { return false };
        if self.seen == Some(found) {
            return false;
        }
        // Before it is entered: if that fails, it will fail the next time too.
        self.seen.replace(found).is_some()
    }

    /// Enters the root of process 1 if it has moved.
    pub(crate) fn follow(&mut self) {
        if self.has_moved() {
            Self::enter();
        }
    }

    /// Where process 1 is now. This process goes there, too.
    pub(super) fn enter() -> Option<OwnedFd> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let folder = file::open_at(roots::PROC, c"1/root", flags, 0).ok()?;
        let _ = file::change_root(folder.as_raw_fd());
        Some(folder)
    }
}

fn look() -> Option<Inode> {
    file::stat_at(roots::PROC, c"1/root", 0)
        .ok()
        .map(|found| found.inode())
}
