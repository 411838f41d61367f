//! The life of the raw process: starting it, ending it, and what its end means for all that waits for it.

use super::effect::Effect;
use super::queued_op::QueuedOp;
use super::request::Request;
use super::state::{RawProcess, State};
use super::syscalls;
use crate::executor::areas;
use crate::executor::children::Child;
use crate::executor::process_tree::kill_tree;
use crate::executor::shared::Shared;
use crate::failure;
use crate::raw_process;
use crate::sys::process::{self, ExitStatus, ForkSide};
use crate::sys::signal;
use crate::sys::slot::SlotState;
use provium_protocol::Reply;

/// Forks it. For the owner's thread.
pub(super) fn fork(shared: &Shared, state: &mut State) {
    state.root = shared.follow_root();
    state.generation = shared.next_generation();
    state.has_foreign_children = false;
    state.is_being_killed = false;
    let area = state.area;
    area.withdraw();
    area.forget_end();
    shared.children.begin_fork();
    match process::fork(0) {
        Ok(ForkSide::Child) => {
            let _ = process::set_limit(libc::RLIMIT_NOFILE, shared.descriptors);
            raw_process::become_raw_process(area)
        }
        Ok(ForkSide::Parent(pid)) => {
            state.raw_process = RawProcess::Running { pid, reaper: None };
            let child = Child::RawProcess(state.lane);
            if let Some(ending) = shared.children.adopt(pid, child) {
                state.ending = Some(ending);
                area.ring();
            }
        }
        Err(errno) => {
            // The next operation tries again.
            let error = failure::os("start a raw process", errno);
            fail_queued(state, &error);
        }
    }
    shared.children.end_fork();
}

fn fail_queued(state: &mut State, error: &provium_protocol::WireError) {
    let queued = state.exact.drain(..).chain(state.operations.drain(..));
    let failed: Vec<_> = queued
        .map(|queued| Effect::Finish(queued.call, Err(error.clone())))
        .collect();
    state.effects.extend(failed);
}

/// It was replaced by another program, or its main thread has ended without it.
pub(super) fn changed(state: &mut State) {
    let Some(pid) = state.pid() else { return };
    if !state.is_being_killed {
        state.is_being_killed = true;
        let _ = signal::send(pid, libc::SIGKILL, true);
        let _ = signal::send(pid, libc::SIGKILL, false);
    }
}

/// It has ended, and was collected.
pub(super) fn ended(shared: &Shared, state: &mut State, ending: ExitStatus) {
    let how = match (state.executes(), state.is_being_killed) {
        (true, true) => "became another program, which was ended".to_owned(),
        (true, false) => format!("became another program, which {ending}"),
        (false, _) => ending.to_string(),
    };
    lose(shared, state, &how);
    if state.is_worker() {
        let code = match ending {
            ExitStatus::Exited(code) => code,
            ExitStatus::Signalled(number) => 128 + number,
        };
        shared.calls.worsen(state.lane, code);
    }
}

/// Kills it although its call cannot be interrupted. Operations that have not started are passed to the next
/// raw process.
pub(super) fn give_up(shared: &Shared, state: &mut State) {
    if let Some(pid) = state.pid() {
        let _ = signal::send(pid, libc::SIGKILL, false);
        state.is_being_killed = true;
        lose(shared, state, "could not be interrupted and was killed");
    }
}

/// It has ended, or counts as ended: answers the requests that it worked on.
fn lose(shared: &Shared, state: &mut State, how: &str) {
    let reaper = match state.raw_process {
        RawProcess::Running { reaper, .. } => reaper,
        _ => None,
    };
    abandon_request(shared, state, how);
    abandon_slots(state, how);
    syscalls::fail_background_calls(state, how);
    kill_strays(state);
    state.unmap.clear();
    if !state.is_worker() {
        state.raw_process = RawProcess::Missing;
        return state.area.ring();
    }
    fail_queued(state, &failure::lane_died(how));
    let is_closed = matches!(state.raw_process, RawProcess::Closed) || !state.closing.is_empty();
    state.raw_process = if is_closed {
        RawProcess::Closed
    } else {
        RawProcess::Ended(how.to_owned())
    };
    if let Some(reaper) = reaper {
        let _ = signal::send(reaper, libc::SIGKILL, false);
    }
    for call in std::mem::take(&mut state.closing) {
        state.finish(call, Ok(Reply::Done));
    }
    kill_operations(shared, state);
}

fn abandon_request(shared: &Shared, state: &mut State, how: &str) {
    state.area.withdraw();
    let Some(posted) = state.posted.take() else {
        return;
    };
    match posted.request {
        Request::Map(raw) | Request::Call(raw) | Request::Thread { raw, .. } => {
            state.fail(raw.call, how);
        }
        Request::Open(open) => state.fail(open.call, how),
        Request::Close { call } => state.fail(call, how),
        Request::Load { .. } | Request::Fork { .. } | Request::Worker { .. } => {
            shared.children.end_fork();
        }
        Request::Unmap | Request::Root(_) => {}
    }
}

/// A process that was not reported, or has not started its work, is too late from now on. Its operation
/// starts again with the next raw process, if there will be one.
fn abandon_slots(state: &mut State, how: &str) {
    let unknown: Vec<usize> = state
        .slots
        .iter()
        .filter(|(_, used)| used.pid.is_none() && !used.handed_over)
        .map(|(index, _)| *index)
        .collect();
    for index in unknown {
        let has_begun = state.area.slot(index).get() != SlotState::Expected;
        state.abort_slot(index);
        let Some(used) = state.slots.remove(&index) else {
            continue;
        };
        if let Some(worker) = used.worker {
            areas::give_back(worker.area.index);
        }
        match used.op {
            Some(op) if !has_begun && !state.is_worker() => {
                let call = used.call;
                state.operations.push_front(QueuedOp { call, op });
            }
            _ => state.fail(used.call, how),
        }
    }
}

fn kill_strays(state: &mut State) {
    for stray in state.strays.drain(..) {
        stray.signal(libc::SIGKILL);
    }
}

/// Kills commands and operation processes, and their descendants.
fn kill_operations(shared: &Shared, state: &State) {
    for pid in shared.children.operations_of(state.lane) {
        kill_tree(pid);
    }
}

/// Kills all processes of the lane.
pub(super) fn kill_all(shared: &Shared, state: &mut State) {
    kill_operations(shared, state);
    if let RawProcess::Running { pid, reaper } = state.raw_process {
        for pid in reaper.into_iter().chain([pid]) {
            let _ = signal::send(pid, libc::SIGKILL, false);
        }
    }
    kill_strays(state);
    for index in state.slots.keys() {
        state.abort_slot(*index);
    }
}
