//! Starting operation processes.

use super::queued_op::QueuedOp;
use super::request::Request;
use super::slot_use::{CommandUse, SlotUse};
use super::state::{State, argument, value_of};
use crate::executor::areas;
use crate::executor::children::Child;
use crate::executor::process_tree::kill_tree;
use crate::executor::shared::Shared;
use crate::failure;
use crate::raw_process::{self, ReservedSlot};
use crate::sys::area::{Code, PAYLOAD};
use crate::sys::process::{self, ForkSide};
use crate::sys::slot::SlotState;
use crate::sys::{Errno, memory};
use provium_protocol::op::{Exec, Stdin};
use provium_protocol::{ErrorKind, Op, WireError, codec};

/// The kernel's limit on the size of a program's arguments and environment.
const ARGUMENTS: usize = 6 * 1024 * 1024;

/// Has the raw process fork an operation process.
pub(super) fn fork(shared: &Shared, state: &mut State, queued: QueuedOp) {
    let Some((slot, payload)) = prepare(state, queued) else {
        return;
    };
    shared.children.begin_fork();
    if state.area.put_payload(&payload) {
        let address = state.area.payload();
        post_fork(state, slot, address, payload.len());
    } else {
        let len = argument(payload.len());
        state.post(Request::Load { slot, payload }, Code::Load, &[len]);
    }
}

fn post_fork(state: &mut State, slot: usize, address: u64, len: usize) {
    let ticket = state.ticket_of(slot).number();
    let arguments = [argument(slot), ticket, address.cast_signed(), argument(len)];
    state.post(Request::Fork { slot }, Code::Fork, &arguments);
}

/// Handles the reply to a request for memory for a payload.
pub(super) fn payload_mapped(
    shared: &Shared,
    state: &mut State,
    slot: usize,
    payload: &[u8],
    result: i64,
) {
    let written = value_of(result).and_then(|address| {
        let pid = state.pid().ok_or(Errno::SRCH)?;
        memory::write_of(pid, address, payload)?;
        Ok(address)
    });
    match written {
        Ok(address) => post_fork(state, slot, address, payload.len()),
        Err(errno) => {
            shared.children.end_fork();
            fail_slot(state, slot, failure::os("start a process", errno));
        }
    }
}

/// Forks an operation process off the executor, which joins the raw process.
pub(super) fn fork_beside(shared: &Shared, state: &mut State, queued: QueuedOp) {
    let Some(raw_process) = state.pid() else {
        return;
    };
    let Some((slot, payload)) = prepare(state, queued) else {
        return;
    };
    shared.children.begin_fork();
    let reserved = ReservedSlot {
        area: state.area,
        index: slot,
        ticket: state.ticket_of(slot),
    };
    match process::fork(0) {
        Ok(ForkSide::Child) => raw_process::run_beside(raw_process, reserved, &payload),
        Ok(ForkSide::Parent(pid)) => adopt(shared, state, slot, pid),
        Err(errno) => fail_slot(state, slot, failure::os("start a process", errno)),
    }
    shared.children.end_fork();
}

/// The raw process has forked an operation process or a worker, or could not.
pub(super) fn forked(shared: &Shared, state: &mut State, slot: usize, result: i64) {
    match value_of(result) {
        Ok(pid) if !state.is_foreign() => {
            adopt(shared, state, slot, i32::try_from(pid).unwrap_or(0));
        }
        // Its number here is found when it is needed.
        Ok(_) => {
            if let Some(used) = state.slots.get_mut(&slot) {
                used.op = None;
            }
        }
        Err(errno) => {
            let what = if state.is_worker_in(slot) {
                "fork a worker"
            } else {
                "start a process"
            };
            fail_slot(state, slot, failure::os(what, errno));
        }
    }
    shared.children.end_fork();
}

/// Registers the process of a slot.
pub(super) fn adopt(shared: &Shared, state: &mut State, slot: usize, pid: i32) {
    if let Some(used) = state.slots.get_mut(&slot) {
        used.pid = Some(pid);
        used.op = None;
        let child = Child::Operation(state.lane, slot);
        used.ending = shared.children.adopt(pid, child);
        if used.call.is_cancelled() && !used.handed_over {
            kill_tree(pid);
        }
    }
}

/// Answers the call of a slot with an error. Its process is not expected any more.
pub(super) fn fail_slot(state: &mut State, slot: usize, error: WireError) {
    if let Some(used) = state.slots.remove(&slot) {
        if let Some(worker) = used.worker {
            areas::give_back(worker.area.index);
        }
        state.area.slot(slot).tell(SlotState::Aborted);
        state.finish(used.call, Err(error));
    }
}

// Slots.

/// Prepares a slot for an operation, and encodes it; `None` if all slots are in use, or it is refused.
fn prepare(state: &mut State, queued: QueuedOp) -> Option<(usize, Vec<u8>)> {
    let QueuedOp { call, mut op } = queued;
    let mut slot_use = SlotUse::new(call);
    match slot_for(state, &mut slot_use, &mut op) {
        Ok((index, payload)) => {
            slot_use.op = Some(op);
            state.area.slot(index).expect(slot_use.ticket);
            state.slots.insert(index, slot_use);
            Some((index, payload))
        }
        Err(error) => {
            state.finish(slot_use.call, Err(error));
            None
        }
    }
}

fn slot_for(
    state: &State,
    slot_use: &mut SlotUse,
    op: &mut Op,
) -> Result<(usize, Vec<u8>), WireError> {
    if slot_use.call.is_cancelled() {
        return Err(failure::cancelled());
    }
    if let Some(fd) = op.descriptor()
        && fd.generation != 0
        && fd.generation != state.generation
    {
        return Err(stale());
    }
    match op {
        Op::Exec(exec) => {
            slot_use.command = Some(CommandUse {
                terminal: exec.tty,
                collect: exec.collect.map(|limit| limit as usize),
            });
            slot_use.input_bytes = take_input(exec);
            add_variables(state, exec);
        }
        Op::Connect { .. } => slot_use.is_connection = true,
        Op::WriteFile { content, .. } => match content.take() {
            Some(bytes) if bytes.len() > PAYLOAD / 2 => {
                slot_use.input_bytes = Some(bytes.into_vec());
            }
            Some(bytes) => *content = Some(bytes),
            None => *content = slot_use.call.whole_input(PAYLOAD / 2).map(Into::into),
        },
        _ => {}
    }
    let payload = codec::encode(op);
    if payload.len() > ARGUMENTS {
        return Err(failure::os("exec", Errno(libc::E2BIG)));
    }
    let index = state.free_slot();
    let index = index.ok_or_else(|| failure::os("start a process", Errno::AGAIN))?;
    Ok((index, payload))
}

/// The bytes that the executor feeds to a command, if the host does not send its input.
fn take_input(exec: &mut Exec) -> Option<Vec<u8>> {
    if let Stdin::Bytes(bytes) = &mut exec.stdin {
        let bytes = std::mem::take(bytes).into_vec();
        exec.stdin = if bytes.is_empty() && !exec.tty {
            Stdin::Null
        } else {
            Stdin::Channel
        };
        return Some(bytes);
    }
    (exec.stdin == Stdin::Null && exec.tty).then(Vec::new)
}

/// Adds the variables of a worker's commands.
fn add_variables(state: &State, exec: &mut Exec) {
    if exec.env_clear {
        return;
    }
    let given = std::mem::take(&mut exec.env);
    let names_user = |name: &[u8]| [b"HOME".as_slice(), b"USER", b"LOGNAME"].contains(&name);
    exec.env = state
        .env
        .iter()
        // Those of another user are that user's.
        .filter(|(name, _)| exec.user.is_none() || !names_user(name))
        .map(|(name, value)| (name.clone().into(), value.clone().into()))
        .collect();
    exec.env.extend(given);
}

/// The error for a descriptor whose raw process has ended.
pub(in crate::executor) fn stale() -> WireError {
    WireError {
        kind: ErrorKind::StaleDescriptor,
        errno: 0,
        message: "the process that had it has ended".to_owned(),
    }
}
