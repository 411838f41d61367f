//! Files by path.

use super::stream::{self, Sent};
use crate::executor::{Call, Outcome, Shared};
use crate::failure::{self, OpResult};
use crate::sys::{Errno, Sys, file};
use provium_protocol::message::EntryType;
use provium_protocol::{Channel, Reply, WireError};
use std::os::fd::{AsRawFd, OwnedFd};

/// The most that a reply carries inline.
const INLINE_LIMIT: usize = 64 * 1024 * 1024;

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

fn done(tried: &str, result: Sys<()>) -> OpResult {
    result
        .map(|()| Reply::Done)
        .map_err(|errno| failure::os(tried, errno))
}

/// Whether opening, reading or writing may wait for somebody else.
pub(super) fn may_wait(kind: EntryType) -> bool {
    !matches!(
        kind,
        EntryType::File | EntryType::Dir | EntryType::BlockDevice
    )
}

/// Opens, again after signals that do not mean the call.
pub(super) fn open(call: &Call, path: &[u8], flags: i32, perm: u32) -> Result<OwnedFd, WireError> {
    loop {
        match file::open(path, flags | libc::O_NOCTTY, perm) {
            Err(Errno::INTR) => call.wanted().map_err(|_| failure::cancelled())?,
            other => return other.map_err(|errno| failure::os("open", errno)),
        }
    }
}

pub(crate) fn read(shared: &Shared, call: &Call, path: Vec<u8>, inline: bool) -> Outcome {
    let waits = file::stat(&path).is_ok_and(|found| may_wait(found.entry_type()));
    if waits {
        return Outcome::later(move |shared, call| {
            let file = open(call, &path, libc::O_RDONLY, 0)?;
            read_rest(shared, call, &file, inline, 0)
        });
    }
    let file = match open(call, &path, libc::O_RDONLY, 0) {
        Ok(file) => file,
        Err(error) => return Err(error).into(),
    };
    if inline {
        if stream::is_readable(file.as_raw_fd()) {
            return read_rest(shared, call, &file, true, 0).into();
        }
        return Outcome::later(move |shared, call| read_rest(shared, call, &file, true, 0));
    }
    send(shared, call, file)
}

/// Sends what is at hand, and leaves the rest to a thread.
pub(super) fn send(shared: &Shared, call: &Call, file: OwnedFd) -> Outcome {
    match stream::send_ready(shared, call, file.as_raw_fd()) {
        Ok(Sent::All(count)) => {
            shared.end(call, Channel::Output);
            Ok(Reply::Count(count)).into()
        }
        Ok(Sent::Part(count)) => {
            Outcome::later(move |shared, call| read_rest(shared, call, &file, false, count))
        }
        Err(error) => Err(error).into(),
    }
}

fn read_rest(shared: &Shared, call: &Call, file: &OwnedFd, inline: bool, sent: u64) -> OpResult {
    if inline {
        let content = stream::read_whole(call, file.as_raw_fd(), INLINE_LIMIT)?;
        return Ok(Reply::Bytes(content.into()));
    }
    let rest = stream::send_rest(shared, call, file.as_raw_fd())?;
    shared.end(call, Channel::Output);
    Ok(Reply::Count(sent + rest))
}

/// How a file is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mode {
    pub(crate) perm: Option<u32>,
    pub(crate) append: bool,
}

pub(crate) fn write(
    shared: &Shared,
    call: &Call,
    path: Vec<u8>,
    mode: Mode,
    content: Option<impl AsRef<[u8]> + Send + 'static>,
) -> Outcome {
    let waits = file::stat(&path).is_ok_and(|found| may_wait(found.entry_type()));
    if waits {
        return Outcome::later(move |shared, call| {
            let file = open_to_write(call, &path, mode)?;
            fill(
                shared,
                call,
                &file,
                mode,
                content.as_ref().map(AsRef::as_ref),
            )
        });
    }
    match open_to_write(call, &path, mode) {
        Err(error) => Err(error).into(),
        Ok(file) if content.is_some() || call.input_ended() => fill(
            shared,
            call,
            &file,
            mode,
            content.as_ref().map(AsRef::as_ref),
        )
        .into(),
        Ok(file) => Outcome::later(move |shared, call| fill(shared, call, &file, mode, None)),
    }
}

fn open_to_write(call: &Call, path: &[u8], mode: Mode) -> Result<OwnedFd, WireError> {
    let how = if mode.append {
        libc::O_APPEND
    } else {
        libc::O_TRUNC
    };
    let file = open(
        call,
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

fn fill(
    shared: &Shared,
    call: &Call,
    file: &OwnedFd,
    mode: Mode,
    content: Option<&[u8]>,
) -> OpResult {
    let fd = file.as_raw_fd();
    let count = match content {
        Some(bytes) => {
            stream::write_whole(call, fd, bytes)?;
            bytes.len() as u64
        }
        None => stream::write_input(shared, call, fd)?,
    };
    // Whoever is not root loses these bits by writing.
    set_mode(file, mode.perm.filter(|perm| perm & SET_ID != 0))?;
    Ok(Reply::Count(count))
}

pub(crate) fn stat(path: &[u8]) -> OpResult {
    let found = file::stat(path).map_err(|errno| failure::os("stat", errno))?;
    Ok(Reply::Stat(found.to_message()))
}

pub(crate) fn list(path: &[u8]) -> OpResult {
    file::open(path, libc::O_RDONLY | libc::O_DIRECTORY, 0)
        .and_then(file::list)
        .map(Reply::Entries)
        .map_err(|errno| failure::os("list", errno))
}

pub(crate) fn make_dir(path: &[u8], parents: bool, perm: Option<u32>) -> OpResult {
    let tried = "mkdir";
    let os = |errno| failure::os(tried, errno);
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

pub(crate) fn unlink(path: &[u8]) -> OpResult {
    done("unlink", file::remove(path))
}

pub(crate) fn rename(from: &[u8], to: &[u8]) -> OpResult {
    done("rename", file::rename(from, to))
}

pub(crate) fn chmod(path: &[u8], perm: u32) -> OpResult {
    done("chmod", file::chmod(path, perm))
}

pub(crate) fn symlink(target: &[u8], path: &[u8]) -> OpResult {
    done("symlink", file::symlink(target, path))
}

pub(crate) fn read_link(path: &[u8]) -> OpResult {
    let target = file::read_link(path).map_err(|errno| failure::os("readlink", errno))?;
    Ok(Reply::Bytes(target.into()))
}
