//! Operations that copy bytes between files and the pipes whose other ends the executor has.

use super::operation::{Operation, OperationResult, with_room};
use super::paths::{self, Mode};
use super::stream_pipes::{StreamPipes, check_readable};
use crate::failure::{self, OpResult};
use crate::sys::errno::uninterrupted;
use crate::sys::slot::PipeEnd;
use crate::sys::{Errno, fd, file};
use provium_protocol::message::EntryType;
use provium_protocol::op::Whence;
use provium_protocol::{Reply, WireError};
use serde_bytes::ByteBuf;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

const CHUNK: usize = 64 * 1024;
/// Size of a pipe to the executor, bytes. The default of 64 KiB takes a switch of processes for each frame.
const PIPE: usize = 1024 * 1024;
/// Maximum size of one [`read`], bytes.
const READ_LIMIT: u32 = 1024 * 1024;
/// From this size on, the content of a file is moved instead of copied, bytes.
const LARGE: u64 = 256 * 1024;
/// Content up to this length goes into the slot, beside the reply.
const SHORT: usize = 256;

/// Whether a read would return at once. Files on disks always claim so; some of `/proc` do not.
fn is_readable(fd: RawFd) -> bool {
    let mut fds = [fd::interest(fd, libc::POLLIN)];
    // A descriptor that is not open counts as readable: the read then says what is wrong.
    fd::poll(&mut fds, Some(Duration::ZERO)).is_ok_and(|ready| ready > 0)
}

fn await_ready(fd: RawFd, events: i16) {
    let _ = fd::poll(&mut [fd::interest(fd, events)], None);
}

/// Reads once; waits for descriptors in non-blocking mode.
fn read_some(fd: RawFd, buffer: &mut [u8]) -> Result<usize, WireError> {
    loop {
        match fd::read(fd, buffer) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => await_ready(fd, libc::POLLIN),
            result => return result.map_err(|errno| failure::os("read", errno)),
        }
    }
}

fn write_whole(fd: RawFd, bytes: &[u8]) -> Result<(), WireError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match fd::write(fd, rest) {
            Ok(put) => rest = &rest[put..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => await_ready(fd, libc::POLLOUT),
            Err(errno) => return Err(failure::os("write", errno)),
        }
    }
    Ok(())
}

/// A pipe to the executor, whose end it has taken.
pub(super) fn output(operation: &Operation) -> Result<OwnedFd, WireError> {
    let (ours, theirs) = operation
        .make_pipe(PipeEnd::Output)
        .map_err(|errno| failure::os("make a pipe", errno))?;
    // An ordinary user may have reached the limit on such memory; then the pipe stays as it is.
    let _ = fd::set_pipe_size(ours.as_raw_fd(), PIPE);
    operation.hand_over();
    drop(theirs);
    Ok(ours)
}

pub(super) fn input(operation: &Operation) -> Result<OwnedFd, WireError> {
    let (ours, theirs) = operation
        .make_pipe(PipeEnd::Input)
        .map_err(|errno| failure::os("make a pipe", errno))?;
    operation.hand_over();
    // Or the pipe would never end.
    drop(theirs);
    Ok(ours)
}

/// Writes bytes to the pipe to the executor. Exits if the pipe has no reader any more.
pub(super) fn send(pipe: &OwnedFd, bytes: &[u8]) {
    if fd::write_all(pipe.as_raw_fd(), bytes).is_err() {
        crate::sys::process::exit(0);
    }
}

/// Copies all that a descriptor gives, after `first`, to the pipe; how many bytes.
fn pump(fd: RawFd, pipe: &OwnedFd, first: &[u8]) -> Result<u64, WireError> {
    send(pipe, first);
    let mut sent = first.len() as u64 + move_pages(fd, pipe);
    let mut buffer = vec![0; CHUNK];
    loop {
        match read_some(fd, &mut buffer)? {
            0 => return Ok(sent),
            got => {
                send(pipe, &buffer[..got]);
                sent += got as u64;
            }
        }
    }
}

/// Moves the content of a file to the pipe, without copying it to this process; how many bytes. What cannot be
/// moved is left to a read, and so is finding out what is wrong with the file.
///
/// While the kernel waits for the content of a file, or of a socket or terminal, it holds the lock of the pipe that
/// the content is for. The executor, which serves all calls of the guest, would wait for that lock when it reads the
/// pipe; so the content goes into a pipe of this process first.
fn move_pages(fd: RawFd, pipe: &OwnedFd) -> u64 {
    let is_worth_it = file::stat_fd(fd)
        .is_ok_and(|found| found.entry_type() == EntryType::File && found.size() >= LARGE);
    if !is_worth_it {
        return 0;
    }
    let Ok((from, to)) = with_room(fd::pipe) else {
        return 0;
    };
    // An ordinary user may have reached the limit on such memory; then the pipe stays as it is.
    let _ = fd::set_pipe_size(to.as_raw_fd(), PIPE);
    let mut moved = 0;
    while let Ok(got @ 1..) = fd::send_file(to.as_raw_fd(), fd, PIPE) {
        let mut rest = got;
        while rest > 0 {
            match fd::splice(from.as_raw_fd(), pipe.as_raw_fd(), rest) {
                Ok(put) => rest -= put,
                Err(Errno::INTR) => {}
                // It has no reader any more.
                Err(_) => crate::sys::process::exit(0),
            }
        }
        moved += got as u64;
    }
    moved
}

/// Copies what comes through the pipe to a descriptor; how many bytes.
fn fill(fd: RawFd, pipe: &OwnedFd) -> Result<u64, WireError> {
    let mut written = 0;
    let mut buffer = vec![0; CHUNK];
    loop {
        match read_some(pipe.as_raw_fd(), &mut buffer)? {
            0 => return Ok(written),
            got => {
                write_whole(fd, &buffer[..got])?;
                written += got as u64;
            }
        }
    }
}

/// A file's content. Short content that is available at once is sent with the reply.
pub(super) fn read_file(operation: &Operation, path: &[u8], inline: bool) -> OperationResult {
    let path = operation.resolve(path);
    let open = || file::open(&path, libc::O_RDONLY | libc::O_NOCTTY, 0);
    let file = match with_room(open) {
        Ok(file) => file,
        Err(errno) => return failure::os("open", errno).into(),
    };
    let fd = file.as_raw_fd();
    let mut first = [0; SHORT];
    let mut got = 0;
    while got < SHORT && is_readable(fd) {
        match read_some(fd, &mut first[got..]) {
            Ok(0) if inline => {
                return Ok(Reply::Bytes(ByteBuf::from(&first[..got]))).into();
            }
            Ok(0) => {
                return OperationResult {
                    data: first[..got].to_vec(),
                    result: Ok(Reply::Count(got as u64)),
                };
            }
            Ok(more) => got += more,
            Err(error) => return error.into(),
        }
    }
    let pipe = match output(operation) {
        Ok(pipe) => pipe,
        Err(error) => return error.into(),
    };
    pump(fd, &pipe, &first[..got]).map(Reply::Count).into()
}

/// Creates or replaces a file, or adds to it.
pub(super) fn write_file(
    operation: &Operation,
    path: &[u8],
    mode: Mode,
    content: Option<ByteBuf>,
) -> OpResult {
    let path = operation.resolve(path);
    let file = paths::open_to_write(&path, mode)?;
    let count = match content {
        Some(bytes) => {
            write_whole(file.as_raw_fd(), &bytes)?;
            bytes.len() as u64
        }
        None => fill(file.as_raw_fd(), &input(operation)?)?,
    };
    paths::set_mode_after(&file, mode)?;
    // Before the reply: a program that was just written can be run.
    drop(file);
    Ok(Reply::Count(count))
}

/// One `read(2)`.
pub(super) fn read(fd: RawFd, max: u32) -> OpResult {
    let mut buffer = vec![0; max.min(READ_LIMIT) as usize];
    let got =
        uninterrupted(|| fd::read(fd, &mut buffer)).map_err(|errno| failure::os("read", errno))?;
    buffer.truncate(got);
    Ok(Reply::Bytes(buffer.into()))
}

/// What the descriptor gives, up to its end.
pub(super) fn stream(operation: &Operation, fd: RawFd, notices: bool) -> OpResult {
    file::stat_fd(fd).map_err(|errno| failure::os("read", errno))?;
    let sent = if notices {
        check_readable(fd).map_err(|errno| failure::os("read", errno))?;
        pump(fd, StreamPipes::open(operation)?.bytes(), &[])
    } else {
        pump(fd, &output(operation)?, &[])
    };
    sent.map(Reply::Count)
}

/// Writes what comes on the input channel.
pub(super) fn write(operation: &Operation, fd: RawFd) -> OpResult {
    file::stat_fd(fd).map_err(|errno| failure::os("write", errno))?;
    fill(fd, &input(operation)?).map(Reply::Count)
}

pub(super) fn seek(fd: RawFd, offset: i64, whence: Whence) -> OpResult {
    let whence = match whence {
        Whence::Set => libc::SEEK_SET,
        Whence::Current => libc::SEEK_CUR,
        Whence::End => libc::SEEK_END,
    };
    let offset = file::seek(fd, offset, whence).map_err(|errno| failure::os("lseek", errno))?;
    Ok(Reply::Count(offset))
}
