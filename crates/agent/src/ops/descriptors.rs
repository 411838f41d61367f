//! Descriptors of the lane's process, by number.

use super::{files, stream};
use crate::executor::{Call, Outcome, Shared};
use crate::failure::{self, OpResult};
use crate::sys::{Errno, fd, file};
use provium_protocol::op::Whence;
use provium_protocol::{Channel, Reply};
use std::os::fd::{IntoRawFd, RawFd};

/// The most of one [`read`].
const READ_LIMIT: u32 = 1024 * 1024;

/// Opens; the descriptor is the test's from then on.
pub(crate) fn open(call: &Call, path: Vec<u8>, flags: i32, perm: u32) -> Outcome {
    let waits = flags & (libc::O_NONBLOCK | libc::O_PATH) == 0
        && file::stat(&path).is_ok_and(|found| files::may_wait(found.entry_type()));
    let open = move |call: &Call| {
        files::open(call, &path, flags, perm).map(|file| Reply::Opened {
            fd: file.into_raw_fd(),
        })
    };
    if waits {
        Outcome::later(move |_, call| open(call))
    } else {
        open(call).into()
    }
}

/// One `read(2)`.
pub(crate) fn read(call: &Call, fd: RawFd, max: u32) -> Outcome {
    let read = move |call: &Call| -> OpResult {
        let mut buffer = vec![0; max.min(READ_LIMIT) as usize];
        loop {
            match fd::read(fd, &mut buffer) {
                Ok(got) => {
                    buffer.truncate(got);
                    return Ok(Reply::Bytes(buffer.into()));
                }
                Err(Errno::INTR) => call.wanted().map_err(|_| failure::cancelled())?,
                Err(errno) => return Err(failure::os("read", errno)),
            }
        }
    };
    if stream::is_readable(fd) {
        return read(call).into();
    }
    Outcome::later(move |_, call| read(call))
}

/// What the descriptor gives, up to its end.
pub(crate) fn stream(shared: &Shared, call: &Call, fd: RawFd) -> Outcome {
    match stream::send_ready(shared, call, fd) {
        Ok(stream::Sent::All(count)) => {
            shared.end(call, Channel::Output);
            Ok(Reply::Count(count)).into()
        }
        Ok(stream::Sent::Part(sent)) => Outcome::later(move |shared, call| {
            let rest = stream::send_rest(shared, call, fd)?;
            shared.end(call, Channel::Output);
            Ok(Reply::Count(sent + rest))
        }),
        Err(error) => Err(error).into(),
    }
}

/// Writes what comes on the input channel.
pub(crate) fn write(shared: &Shared, call: &Call, fd: RawFd) -> Outcome {
    let waits = match file::stat_fd(fd) {
        Ok(found) => files::may_wait(found.entry_type()),
        Err(errno) => return Err(failure::os("write", errno)).into(),
    };
    if !waits && call.input_ended() {
        return stream::write_input(shared, call, fd)
            .map(Reply::Count)
            .into();
    }
    Outcome::later(move |shared, call| stream::write_input(shared, call, fd).map(Reply::Count))
}

pub(crate) fn seek(fd: RawFd, offset: i64, whence: Whence) -> OpResult {
    let whence = match whence {
        Whence::Set => libc::SEEK_SET,
        Whence::Current => libc::SEEK_CUR,
        Whence::End => libc::SEEK_END,
    };
    let offset = file::seek(fd, offset, whence).map_err(|errno| failure::os("lseek", errno))?;
    Ok(Reply::Count(offset))
}

pub(crate) fn close(fd: RawFd) -> OpResult {
    fd::close(fd).map_err(|errno| failure::os("close", errno))?;
    Ok(Reply::Done)
}
