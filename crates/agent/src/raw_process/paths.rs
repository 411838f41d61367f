//! Operations by path that have a single reply.

use crate::failure::{self, OpResult};
use crate::sys::{Errno, Sys, file};
use provium_protocol::message::EntryType;
use provium_protocol::{Reply, WireError};
use std::os::fd::{AsRawFd, OwnedFd};

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// How a file is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode {
    pub(super) perm: Option<u32>,
    pub(super) append: bool,
}

fn done(tried: &str, result: Sys<()>) -> OpResult {
    result
        .map(|()| Reply::Done)
        .map_err(|errno| failure::os(tried, errno))
}

pub(super) fn open(path: &[u8], flags: i32, perm: u32) -> Result<OwnedFd, WireError> {
    file::open(path, flags | libc::O_NOCTTY, perm).map_err(|errno| failure::os("open", errno))
}

pub(super) fn open_to_write(path: &[u8], mode: Mode) -> Result<OwnedFd, WireError> {
    let how = if mode.append {
        libc::O_APPEND
    } else {
        libc::O_TRUNC
    };
    let file = open(
        path,
        libc::O_WRONLY | libc::O_CREAT | how,
        mode.perm.unwrap_or(0o644),
    )?;
    set_mode(&file, mode.perm)?;
    Ok(file)
}

fn set_mode(file: &OwnedFd, perm: Option<u32>) -> Result<(), WireError> {
    let Some(perm) = perm else { return Ok(()) };
    file::chmod_fd(file.as_raw_fd(), perm).map_err(|errno| failure::os("fchmod", errno))
}

/// Restores the mode bits that a write by a user other than root clears.
pub(super) fn set_mode_after(file: &OwnedFd, mode: Mode) -> Result<(), WireError> {
    set_mode(file, mode.perm.filter(|perm| perm & SET_ID != 0))
}

pub(super) fn stat(path: &[u8]) -> OpResult {
    let found = file::stat(path).map_err(|errno| failure::os("stat", errno))?;
    Ok(Reply::Stat(found.to_message()))
}

pub(super) fn list(path: &[u8]) -> OpResult {
    super::operation::with_room(|| file::open(path, libc::O_RDONLY | libc::O_DIRECTORY, 0))
        .and_then(file::list)
        .map(Reply::Entries)
        .map_err(|errno| failure::os("list", errno))
}

pub(super) fn make_dir(path: &[u8], parents: bool, perm: Option<u32>) -> OpResult {
    let tried = "mkdir";
    let os = |errno| failure::os(tried, errno);
    // `mkdir(2)` takes slashes at the end, too; here they would make the folder one of the parents.
    let end = path.iter().rposition(|byte| *byte != b'/');
    let path = end.map_or(path, |end| &path[..=end]);
    if parents {
        for (at, _) in path
            .iter()
            .enumerate()
            .filter(|(at, byte)| **byte == b'/' && *at > 0)
        {
            // Whatever is wrong here is wrong below, too.
            let _ = file::make_dir(&path[..at], 0o755);
        }
    }
    match file::make_dir(path, perm.unwrap_or(0o755)) {
        Err(Errno::EXIST) if parents => {
            // As `mkdir -p`: what is there is left as it is.
            let found = file::stat(path).map_err(os)?;
            return match found.entry_type() {
                EntryType::Dir => Ok(Reply::Done),
                _ => Err(os(Errno::EXIST)),
            };
        }
        result => result.map_err(os)?,
    }
    match perm {
        // The umask may have taken bits away.
        Some(perm) => done("chmod", file::chmod(path, perm)),
        None => Ok(Reply::Done),
    }
}

pub(super) fn unlink(path: &[u8]) -> OpResult {
    done("unlink", file::remove(path))
}

pub(super) fn rename(from: &[u8], to: &[u8]) -> OpResult {
    done("rename", file::rename(from, to))
}

pub(super) fn chmod(path: &[u8], perm: u32) -> OpResult {
    done("chmod", file::chmod(path, perm))
}

pub(super) fn symlink(target: &[u8], path: &[u8]) -> OpResult {
    done("symlink", file::symlink(target, path))
}

pub(super) fn read_link(path: &[u8]) -> OpResult {
    let target = file::read_link(path).map_err(|errno| failure::os("readlink", errno))?;
    Ok(Reply::Bytes(target.into()))
}
