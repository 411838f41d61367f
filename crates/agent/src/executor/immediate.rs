//! Operations that the main thread carries out at once, because they need no process of the lane.

use super::call::{CallKind, RunMode};
use super::command::Command;
use super::owner::{Owner, stale};
use super::shared::Shared;
use crate::failure::{self, OpResult};
use crate::sys::{Errno, memory};
use provium_protocol::op::{SignalTarget, WindowSize};
use provium_protocol::{CallId, Descriptor, Lane, Reply};

/// The most of a raw process's memory that is read at a time.
const MEMORY_LIMIT: u64 = 64 * 1024 * 1024;

/// Signals the command of a call.
pub(super) fn signal(
    shared: &Shared,
    owner: &Owner,
    call: CallId,
    signal: i32,
    target: SignalTarget,
) -> OpResult {
    let (group, tree) = match target {
        SignalTarget::Process => (false, false),
        SignalTarget::Group => (true, false),
        SignalTarget::Tree => (true, true),
    };
    shared
        .calls
        .get(owner.lane, call)
        .ok_or(Errno::SRCH)
        .and_then(|call| owner.signal(&call, signal, group, tree))
        .map(|()| Reply::Done)
        .map_err(|errno| failure::os("kill", errno))
}

/// Sets the size of the terminal of a call's command.
pub(super) fn resize_terminal(
    commands: &[Command],
    lane: Lane,
    call: CallId,
    window: WindowSize,
) -> OpResult {
    let command = commands.iter().find(|command| command.is_of(lane, call));
    command
        .ok_or(Errno::SRCH)
        .and_then(|command| command.resize_terminal(window))
        .map(|()| Reply::Done)
        .map_err(|errno| failure::os("resize the terminal", errno))
}

/// Signals the background commands of a lane; with `everything` also the others.
pub(super) fn signal_all(
    shared: &Shared,
    owner: &Owner,
    signal: i32,
    everything: bool,
) -> OpResult {
    let calls = shared.calls.of_lane(owner.lane);
    let meant = calls.iter().filter(|call| match call.kind {
        CallKind::Command(RunMode::Background) => true,
        CallKind::Command(RunMode::Foreground) => everything,
        CallKind::Batch | CallKind::Other => false,
    });
    let count = meant
        .filter(|call| owner.signal(call, signal, true, false).is_ok())
        .count();
    Ok(Reply::Count(count as u64))
}

pub(super) fn read_memory(owner: &Owner, address: u64, len: u64) -> OpResult {
    if len > MEMORY_LIMIT {
        return Err(failure::invalid(format!(
            "at most {MEMORY_LIMIT} bytes of memory at a time"
        )));
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    owner
        .raw_process()
        .ok_or(Errno::SRCH)
        .and_then(|pid| memory::read_of(pid, address, len))
        .map(|bytes| Reply::Bytes(bytes.into()))
        .map_err(|errno| failure::os(format!("read memory at {address:#x}"), errno))
}

pub(super) fn write_memory(owner: &Owner, address: u64, data: &[u8]) -> OpResult {
    owner
        .raw_process()
        .ok_or(Errno::SRCH)
        .and_then(|pid| memory::write_of(pid, address, data))
        .map(|()| Reply::Done)
        .map_err(|errno| failure::os(format!("write memory at {address:#x}"), errno))
}

pub(super) fn check_descriptor(owner: &Owner, fd: Descriptor) -> OpResult {
    if owner.has_descriptor(fd) {
        Ok(Reply::Done)
    } else {
        Err(stale())
    }
}
