//! The copy of the agent that tests use as a program: `/sbin/provium-agent`.
//!
//! It is a copy, since tests change its mode and attributes, and read and map it, which must not affect
//! the executable that serves them. It is made in the guest, where `/sbin` may be a link.

use crate::roots;
use crate::sys::{Errno, Sys, fd, file};
use std::os::fd::AsRawFd;

const FOLDER: &str = "/sbin";
const COPY: &str = "/sbin/provium-agent";
const PERM: u32 = 0o755;
const CHUNK: usize = 256 * 1024;

/// Makes the copy, unless there is a file of that name.
pub(super) fn leave_copy() -> Sys<()> {
    match file::make_dir(FOLDER.as_bytes(), PERM) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    let copy = match file::open(COPY.as_bytes(), flags, PERM) {
        Ok(copy) => copy,
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    // In a root on a disk, the agent has no path any more.
    let agent = file::open_at(roots::PROC, c"self/exe", libc::O_RDONLY, 0)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        match fd::read(agent.as_raw_fd(), &mut chunk)? {
            0 => return file::chmod_fd(copy.as_raw_fd(), PERM),
            got => fd::write_all(copy.as_raw_fd(), &chunk[..got])?,
        }
    }
}
