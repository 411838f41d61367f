//! Following the root of process 1.
//!
//! An initial RAM file system ends in a `switch_root`; from then on, a test means the new root. Only
//! a change of process 1's root counts, so a `chroot` that a test made by itself stays.

use crate::roots;
use crate::sys::file::{self, Inode};

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

    /// Moves to where process 1 has moved, if it has.
    pub(super) fn follow(&mut self) {
        let Some(found) = look() else { return };
        if self.seen == Some(found) {
            return;
        }
        // Before it is entered: if that fails, it will fail the next time too.
        let first = self.seen.is_none();
        self.seen = Some(found);
        if first {
            return;
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        if let Ok(folder) = file::open_at(roots::PROC, c"1/root", flags, 0) {
            use std::os::fd::AsRawFd;
            let _ = file::change_root(folder.as_raw_fd());
        }
    }
}

fn look() -> Option<Inode> {
    file::stat_at(roots::PROC, c"1/root", 0)
        .ok()
        .map(|found| found.inode())
}
