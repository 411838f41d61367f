//! Opening and closing files in the raw process.

use super::request::{OpenRequest, Request};
use super::state::{State, value_of};
use super::syscalls;
use crate::executor::call::Call;
use crate::failure;
use crate::sys::Errno;
use crate::sys::area::{Code, WOULD_WAIT};
use provium_protocol::op::{Buffer, Syscall};
use provium_protocol::{Descriptor, Reply};
use std::sync::Arc;

pub(super) fn open(state: &mut State, open: OpenRequest) {
    let mut terminated = open.path.clone();
    terminated.push(0);
    if open.path.contains(&0) || !state.area.put_payload(&terminated) {
        let error = failure::os("open", Errno::INVAL);
        return state.finish(open.call, Err(error));
    }
    let arguments = [
        state.area.payload().cast_signed(),
        i64::from(open.flags),
        i64::from(open.perm),
    ];
    state.post(Request::Open(open), Code::Open, &arguments);
}

/// Handles the answer of the raw process.
pub(super) fn answered(state: &mut State, request: OpenRequest, result: i64) {
    if result == WOULD_WAIT {
        return open_in_background(state, request);
    }
    if result == -i64::from(libc::EINTR) && !request.call.is_cancelled() {
        return open(state, request);
    }
    opened(state, request.call, result);
}

/// Opening it may block on another process, so a separate thread opens it.
fn open_in_background(state: &mut State, open: OpenRequest) {
    let mut path = open.path;
    path.push(0);
    let flags = open.flags | libc::O_CLOEXEC | libc::O_NOCTTY;
    let request = Syscall {
        nr: libc::SYS_openat,
        args: [
            i64::from(libc::AT_FDCWD),
            0,
            i64::from(flags),
            i64::from(open.perm),
            0,
            0,
        ],
        buffers: vec![Buffer {
            len: path.len() as u64,
            content: path,
            align: 16,
            returned: false,
        }],
        pointers: vec![1],
        nested: Vec::new(),
        background: true,
    };
    syscalls::begin(state, open.call, request, true);
}

/// Answers the call with the file, or why it could not be opened.
pub(super) fn opened(state: &mut State, call: Arc<Call>, result: i64) {
    let generation = state.generation;
    let result = match value_of(result) {
        Ok(number) => Ok(Reply::Opened(Descriptor {
            number: i32::try_from(number).unwrap_or(-1),
            generation,
        })),
        Err(Errno::INTR) if call.is_cancelled() => Err(failure::cancelled()),
        Err(errno) => Err(failure::os("open", errno)),
    };
    state.finish(call, result);
}

pub(super) fn close(state: &mut State, call: Arc<Call>, fd: Descriptor) {
    if fd.generation != 0 && fd.generation != state.generation {
        // It was closed with its process.
        return state.finish(call, Ok(Reply::Done));
    }
    let arguments = [libc::SYS_close, i64::from(fd.number), 0, 0, 0, 0, 0];
    state.post(Request::Close { call }, Code::Call, &arguments);
}

pub(super) fn closed(state: &mut State, call: Arc<Call>, result: i64) {
    let result = match value_of(result) {
        Ok(_) => Ok(Reply::Done),
        Err(errno) => Err(failure::os("close", errno)),
    };
    state.finish(call, result);
}
