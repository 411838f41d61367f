//! Events of operation processes: a process offers the ends of its pipes, or has left its result.

use super::effect::Effect;
use super::operations::{adopt, fail_slot};
use super::request::PostedRequest;
use super::slot_use::message_of;
use super::state::State;
use super::workers;
use crate::executor::process_tree::{self, kill_tree};
use crate::executor::shared::Shared;
use crate::executor::spawned::{ProcessKind, SpawnedChild, SpawnedProcess};
use crate::failure;
use crate::raw_process;
use crate::roots;
use crate::sys::process;
use crate::sys::slot::{Message, PipeEnd, SlotState};
use crate::sys::{Sys, fd, file};
use provium_protocol::StreamId;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// The most of a file's content in a batch's results.
pub(in crate::executor) const INLINE_LIMIT: usize = 4 * 1024 * 1024;

/// Handles the events of all slots.
pub(super) fn handle(shared: &Shared, state: &mut State) {
    let waiting: Vec<usize> = state
        .slots
        .iter()
        .filter(|(_, used)| !used.handed_over)
        .map(|(index, _)| *index)
        .collect();
    for index in waiting {
        let slot = state.area.slot(index);
        match (slot.get(), state.is_worker_in(index)) {
            (SlotState::Offered, true) => workers::map_ids(state, index),
            (SlotState::Offered, false) => offered(shared, state, index),
            (SlotState::Done, true) => workers::reported(shared, state, index),
            (SlotState::Done, false) => done(shared, state, index),
            _ => fail_if_ended(state, index),
        }
    }
}

fn fail_if_ended(state: &mut State, index: usize) {
    let Some(used) = state.slots.get(&index) else {
        return;
    };
    let slot = state.area.slot(index);
    // It may have been done in between.
    if let Some(ending) = used.ending
        && slot.get() != SlotState::Done
        && (slot.get() == SlotState::Aborted || !used.is_succeeded(ending))
    {
        let error = failure::invalid(format!("its process {ending}"));
        fail_slot(state, index, error);
    }
}

/// The process id of a slot's process, of which only the name may be known.
fn process_of(shared: &Shared, state: &mut State, index: usize) -> Option<i32> {
    let used = state.slots.get(&index)?;
    if used.pid.is_none() && state.is_foreign() {
        let name = raw_process::operation_name(state.area.index, index);
        if let Some(pid) = process_tree::find_named(&name) {
            adopt(shared, state, index, pid);
        }
    }
    state.process_in(index)
}

fn done(shared: &Shared, state: &mut State, index: usize) {
    let slot = state.area.slot(index);
    let outcome = slot.outcome();
    let is_there = matches!(outcome.message, Message::There { .. });
    let pid = if is_there {
        process_of(shared, state, index)
    } else {
        Some(0)
    };
    // Its number is about to be known.
    let Some(pid) = pid else { return };
    let message = message_of(outcome.message, pid);
    let is_posted = state.posted.as_ref().and_then(PostedRequest::slot) == Some(index);
    let Some(used) = state.slots.get_mut(&index) else {
        return;
    };
    if is_posted {
        // The slot stays until the fork is reported.
        used.op = None;
        return;
    }
    let call = Arc::clone(&used.call);
    state.slots.remove(&index);
    slot.tell(SlotState::Free);
    if call.is_cancelled() {
        return state.finish(call, Err(failure::cancelled()));
    }
    let effect = Effect::FinishEncoded(call, outcome.data, message);
    state.effects.push(effect);
}

/// Takes the ends of a process's pipes; the process waits for that.
fn offered(shared: &Shared, state: &mut State, index: usize) {
    let Some(pid) = process_of(shared, state, index) else {
        return;
    };
    let slot = state.area.slot(index);
    let lane = state.lane;
    let Some(used) = state.slots.get_mut(&index) else {
        return;
    };
    let taken = take_ends(pid, |end| slot.end(end));
    let call = Arc::clone(&used.call);
    let ends = match taken {
        Ok(ends) if !call.is_cancelled() && used.ending.is_none() => ends,
        failed => {
            let error = match failed {
                Err(errno) => failure::os("take the ends of pipes", errno),
                Ok(_) => failure::cancelled(),
            };
            kill_tree(pid);
            return fail_slot(state, index, error);
        }
    };
    let [input, output, error, exec] = ends;
    let kind = match used.command {
        Some(command) => ProcessKind::Command {
            terminal: command.terminal,
        },
        None if used.is_connection => ProcessKind::Connection,
        None => ProcessKind::Transfer,
    };
    let is_inline = kind == ProcessKind::Transfer && output.is_some() && !call.sends_output;
    let collect = match used.command {
        Some(command) => command.collect,
        None => is_inline.then_some(INLINE_LIMIT),
    };
    let mut outputs = Vec::new();
    outputs.extend(output.map(|fd| (StreamId::Output, fd)));
    outputs.extend(error.map(|fd| (StreamId::Error, fd)));
    if kind == ProcessKind::Transfer {
        // Notices are sent before the bytes that follow them.
        outputs.reverse();
    }
    used.handed_over = true;
    // Before the process continues: the main thread must be prepared for its end.
    shared.handover.push(SpawnedChild::Process(SpawnedProcess {
        call: Arc::clone(&call),
        lane,
        pid,
        slot: index,
        kind,
        outputs,
        input,
        input_bytes: used.input_bytes.take(),
        exec,
        collect,
    }));
    if matches!(kind, ProcessKind::Command { .. }) {
        // Signals that came early may end it here.
        call.process_started(pid);
    }
    slot.tell(SlotState::Taken);
}

/// The pipe ends that a process offers, duplicated into this process.
fn take_ends(pid: i32, number: impl Fn(PipeEnd) -> Option<i32>) -> Sys<[Option<OwnedFd>; 4]> {
    let handle = process::open(pid);
    let take = |end: PipeEnd| -> Sys<Option<OwnedFd>> {
        let Some(number) = number(end) else {
            return Ok(None);
        };
        let copy = handle
            .as_ref()
            .map_err(|errno| *errno)
            .and_then(|handle| process::descriptor_of(handle.as_raw_fd(), number));
        let fd = match copy {
            Ok(fd) => fd,
            // Before Linux 5.6. A pipe can be opened by name, a terminal by its own.
            Err(_) => {
                let way = match end {
                    PipeEnd::Input => libc::O_WRONLY,
                    _ => libc::O_RDONLY,
                };
                let path = file::path(format!("{pid}/fd/{number}").as_bytes())?;
                file::open_at(roots::PROC, &path, way | libc::O_NOCTTY, 0)?
            }
        };
        fd::set_nonblocking(fd.as_raw_fd())?;
        Ok(Some(fd))
    };
    Ok([
        take(PipeEnd::Input)?,
        take(PipeEnd::Output)?,
        take(PipeEnd::Error)?,
        take(PipeEnd::Exec)?,
    ])
}
