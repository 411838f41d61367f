//! The next operation of the raw process, and the destination of its answer.

use super::effect::Effect;
use super::queued_op::QueuedOp;
use super::request::{NOTIFY_AFTER, OpenRequest, Request};
use super::state::State;
use super::{files, operations, raw_process, results, syscalls, workers};
use crate::executor::root::Root;
use crate::executor::shared::Shared;
use crate::failure;
use crate::sys::area::Code;
use crate::sys::process;
use provium_protocol::{Event, Op};
use std::os::fd::AsRawFd;

/// Does what can be done now. `own`: on the owner's thread.
pub(super) fn progress(shared: &Shared, state: &mut State, own: bool) {
    if let Some(ending) = state.ending.take() {
        raw_process::ended(shared, state, ending);
    }
    if own && state.posted.is_some() && state.area.has_ended() {
        raw_process::changed(state);
    }
    loop {
        complete(shared, state);
        results::handle(shared, state);
        for (raw, result) in syscalls::take_returned(state) {
            if raw.opens {
                state.unmap.extend(raw.region);
                files::opened(state, raw.call, result);
            } else {
                syscalls::returned(state, raw, result);
            }
        }
        if !post_next(shared, state) {
            break;
        }
    }
    if own {
        relieve(shared, state);
    }
}

/// Continues with requests that were answered.
fn complete(shared: &Shared, state: &mut State) {
    while state.posted.is_some()
        && let Some(result) = state.area.reply()
        && let Some(posted) = state.posted.take()
    {
        match posted.request {
            Request::Map(raw) => syscalls::mapped(state, raw, result),
            Request::Call(raw) => syscalls::returned(state, raw, result),
            Request::Thread { index, raw } => syscalls::thread_started(state, index, raw, result),
            Request::Load { slot, payload } => {
                operations::payload_mapped(shared, state, slot, &payload, result);
            }
            Request::Fork { slot } | Request::Worker { slot } => {
                operations::forked(shared, state, slot, result);
            }
            Request::Open(open) => files::answered(state, open, result),
            Request::Close { call } => files::closed(state, call, result),
            Request::Unmap | Request::Root(_) => {}
        }
    }
}

/// Posts the next request; returns false if there is none, or if the raw process is busy.
fn post_next(shared: &Shared, state: &mut State) -> bool {
    if state.posted.is_some() || !state.is_running() {
        return false;
    }
    if let Some(region) = state.unmap.pop() {
        state.post(Request::Unmap, Code::Unmap, &[region.cast_signed()]);
        return true;
    }
    let next = state.operations.front().or(state.exact.front());
    if next.is_some_and(|queued| queued.op.resolves_path()) && state.root.has_moved() {
        shared.follow_root();
        if let Some(folder) = Root::enter() {
            let arguments = [i64::from(process::id()), i64::from(folder.as_raw_fd())];
            state.post(Request::Root(folder), Code::Root, &arguments);
            return true;
        }
    }
    if let Some(queued) = state.operations.pop_front() {
        if state.has_foreign_children && !matches!(queued.op, Op::Exec(_)) {
            operations::fork_beside(shared, state, queued);
        } else {
            operations::fork(shared, state, queued);
        }
        return true;
    }
    let Some(QueuedOp { call, op }) = state.exact.pop_front() else {
        return false;
    };
    if call.is_cancelled() {
        state.finish(call, Err(failure::cancelled()));
        return true;
    }
    match op {
        Op::Syscall(request) => syscalls::begin(state, call, request, false),
        Op::Open { path, flags, perm } => {
            let open = OpenRequest {
                call,
                path,
                flags,
                perm,
            };
            files::open(state, open);
        }
        Op::CloseFd { fd } => files::close(state, call, fd),
        Op::SpawnWorker(spec) => workers::fork(shared, state, call, spec),
        // The class of every other operation is another.
        _ => {
            let error = failure::invalid("not an operation of the raw process");
            state.finish(call, Err(error));
        }
    }
    true
}

/// Takes operations from a busy raw process, and informs the callers that wait for it.
fn relieve(shared: &Shared, state: &mut State) {
    let (waited, limit) = match &state.posted {
        Some(posted) => (posted.since.elapsed(), posted.relief_after()),
        None => return,
    };
    if waited < limit || !state.is_running() {
        return;
    }
    while let Some(queued) = state.operations.pop_front() {
        operations::fork_beside(shared, state, queued);
    }
    if waited < NOTIFY_AFTER {
        return;
    }
    let preparing = state
        .posted
        .as_mut()
        .and_then(|posted| posted.set_informed());
    let queued = state.exact.iter().filter(|queued| {
        matches!(&queued.op, Op::Syscall(request) if request.background)
            && queued.call.set_informed()
    });
    let waiting = preparing
        .into_iter()
        .chain(queued.map(|queued| queued.call.clone()));
    let notices: Vec<_> = waiting
        .map(|call| Effect::Notify(call, Event::Waiting))
        .collect();
    state.effects.extend(notices);
}
