//! Raw calls: on the only thread of the raw process, or in the background on a further one.

use super::effect::Effect;
use super::raw_call::{BackgroundCall, RawCall};
use super::request::Request;
use super::state::{State, argument, value_of};
use crate::executor::call::Call;
use crate::executor::process_tree::Stray;
use crate::failure;
use crate::roots;
use crate::sys::area::{Code, thread_state};
use crate::sys::{Errno, file, raw};
use provium_protocol::Event;
use provium_protocol::op::Syscall;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Starts a raw call. `opens`: its result is a file that was opened.
pub(super) fn begin(state: &mut State, call: Arc<Call>, request: Syscall, opens: bool) {
    let raw = match RawCall::new(call, request, opens) {
        Ok(raw) => raw,
        Err((call, error)) => return state.finish(call, Err(error)),
    };
    if raw.needs_region() {
        let arguments = [argument(raw.layout.len), argument(raw.layout.align)];
        return state.post(Request::Map(raw), Code::Map, &arguments);
    }
    make(state, raw);
}

/// Handles the reply to a request for memory.
pub(super) fn mapped(state: &mut State, mut raw: RawCall, result: i64) {
    match value_of(result) {
        Ok(address) => {
            raw.region = Some(address);
            make(state, raw);
        }
        Err(errno) => state.finish(raw.call, Err(failure::os("map buffers", errno))),
    }
}

fn make(state: &mut State, mut raw: RawCall) {
    let area = state.area;
    let arguments = match raw.place(area, state.pid()) {
        Ok(arguments) => arguments,
        Err(error) => {
            state.unmap.extend(raw.region);
            return state.finish(raw.call, Err(error));
        }
    };
    if !raw.request.background {
        return state.post(Request::Call(raw), Code::Call, &arguments);
    }
    let Some(index) = state.free_thread() else {
        state.unmap.extend(raw.region);
        let error = failure::os("start a thread", Errno::AGAIN);
        return state.finish(raw.call, Err(error));
    };
    let cell = area.thread(index);
    cell.nr.store(arguments[0], Ordering::Relaxed);
    for (to, from) in cell.arguments.iter().zip(&arguments[1..]) {
        to.store(*from, Ordering::Relaxed);
    }
    let request = Request::Thread { index, raw };
    state.post(request, Code::Thread, &[argument(index)]);
}

/// Handles the end of a call.
pub(super) fn returned(state: &mut State, raw: RawCall, result: i64) {
    note_effects(state, &raw.request, result);
    let reply = raw.reply(state.area, state.pid(), result);
    state.unmap.extend(raw.region);
    state.finish(raw.call, reply);
}

/// Updates the state that later operations need after a raw call has changed it.
fn note_effects(state: &mut State, request: &Syscall, result: i64) {
    if result > 0
        && raw::forks(request.nr)
        && let Ok(pid) = i32::try_from(result)
        && let Some(child) = Stray::of(pid)
        && !state.is_foreign()
    {
        state.strays.push(child);
    }
    let changes = [libc::SYS_unshare, libc::SYS_setns].contains(&request.nr);
    if result == 0
        && changes
        && let Some(pid) = state.pid()
    {
        let link = |name: &str| {
            file::read_link_at(
                roots::PROC,
                &file::path(format!("{pid}/ns/{name}").as_bytes())?,
            )
        };
        state.has_foreign_children = link("pid") != link("pid_for_children");
    }
}

// Calls in the background.

pub(super) fn thread_started(state: &mut State, index: usize, raw: RawCall, result: i64) {
    match value_of(result) {
        Ok(tid) => {
            let tid = i32::try_from(tid).unwrap_or(0);
            if !raw.opens {
                let event = Event::Entered {
                    tid: tid.unsigned_abs(),
                };
                let call = Arc::clone(&raw.call);
                state.effects.push(Effect::Notify(call, event));
            }
            state.threads.insert(index, BackgroundCall { raw, tid });
        }
        Err(errno) => {
            state.unmap.extend(raw.region);
            let why = if state.has_foreign_children {
                "start a thread: children of the raw process are in another pid namespace"
            } else {
                "start a thread"
            };
            state.finish(raw.call, Err(failure::os(why, errno)));
        }
    }
}

/// Takes the calls in the background that have returned, with their results.
pub(super) fn take_returned(state: &mut State) -> Vec<(RawCall, i64)> {
    let done: Vec<usize> = state
        .threads
        .keys()
        .copied()
        .filter(|index| {
            state.area.thread(*index).state.load(Ordering::Acquire) == thread_state::DONE
        })
        .collect();
    let mut returned = Vec::new();
    for index in done {
        if let Some(thread) = state.threads.remove(&index) {
            let cell = state.area.thread(index);
            let result = cell.result.load(Ordering::Relaxed);
            cell.state.store(thread_state::FREE, Ordering::Release);
            returned.push((thread.raw, result));
        }
    }
    returned
}

/// Fails all calls in the background: their process has ended.
pub(super) fn fail_background_calls(state: &mut State, how: &str) {
    for (index, thread) in state.threads.take() {
        let cell = state.area.thread(index);
        cell.state.store(thread_state::FREE, Ordering::Release);
        cell.alive.store(0, Ordering::Release);
        state.fail(thread.raw.call, how);
    }
}
