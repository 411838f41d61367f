//! Starting workers: areas, namespaces, and the steps that the executor has to take for them.

use super::request::Request;
use super::slot_use::{NewWorker, SlotUse, message_of};
use super::state::{State, argument};
use crate::executor::areas;
use crate::executor::call::Call;
use crate::executor::process_tree;
use crate::executor::shared::Shared;
use crate::executor::spawned::{SpawnedChild, SpawnedWorker};
use crate::failure::{self, OpResult};
use crate::raw_process;
use crate::roots;
use crate::sys::area::Code;
use crate::sys::slot::{PipeEnd, SlotState};
use crate::sys::{Errno, Sys, file, process, signal};
use provium_protocol::op::WorkerSpec;
use provium_protocol::{Reply, WireError, codec};
use std::sync::Arc;

/// Has the raw process fork a worker.
pub(super) fn fork(shared: &Shared, state: &mut State, call: Arc<Call>, spec: WorkerSpec) {
    let mut slot_use = SlotUse::new(call);
    let (slot, len) = match prepare(shared, state, &mut slot_use, spec) {
        Ok(prepared) => prepared,
        Err(error) => return state.finish(slot_use.call, Err(error)),
    };
    let ticket = slot_use.ticket;
    let area = slot_use.worker.as_ref().map_or(0, |new| new.area.index);
    let arguments = [
        argument(slot),
        ticket.number(),
        state.area.payload().cast_signed(),
        argument(len),
        argument(area),
    ];
    state.area.slot(slot).expect(ticket);
    state.slots.insert(slot, slot_use);
    shared.children.begin_fork();
    state.post(Request::Worker { slot }, Code::Worker, &arguments);
}

/// Prepares slot, area and payload; the slot, and the length of the payload.
fn prepare(
    shared: &Shared,
    state: &State,
    slot_use: &mut SlotUse,
    spec: WorkerSpec,
) -> Result<(usize, usize), WireError> {
    if state.is_worker() {
        return Err(failure::invalid("a worker starts no workers"));
    }
    let payload = codec::encode(&spec);
    let (Some(slot), Some(area)) = (state.free_slot(), areas::take()) else {
        return Err(failure::os("fork a worker", Errno::AGAIN));
    };
    if !state.area.put_payload(&payload) {
        areas::give_back(area.index);
        return Err(failure::invalid("the worker's options are too long"));
    }
    area.empty();
    slot_use.worker = Some(NewWorker {
        area,
        generation: shared.next_generation(),
        spec,
    });
    Ok((slot, payload.len()))
}

/// Maps users and groups of a user namespace that a worker has just made.
pub(super) fn map_ids(state: &State, index: usize) {
    // Its number is about to be known.
    let Some(pid) = state.process_in(index) else {
        return;
    };
    let slot = state.area.slot(index);
    if let (Some(uid), Some(gid)) = (slot.end(PipeEnd::Input), slot.end(PipeEnd::Output)) {
        // Where this is not allowed, the worker tries for itself.
        let _ = write_id_maps(pid, uid, gid);
    }
    slot.tell(SlotState::Taken);
}

/// A worker is ready, and is passed to the main thread; or it has failed to start.
pub(super) fn reported(shared: &Shared, state: &mut State, index: usize) {
    let root = state.root;
    let parent = state.lane;
    let slot = state.area.slot(index);
    let Some(used) = state.slots.get_mut(&index) else {
        return;
    };
    // The fork is about to be reported.
    let Some(first) = used.pid else { return };
    let Some(worker) = used.worker.take() else {
        return;
    };
    let message = message_of(slot.outcome().message, first);
    let result = codec::decode::<OpResult>(&message)
        .unwrap_or_else(|_| Err(failure::invalid("the worker's report cannot be read")));
    let call = Arc::clone(&used.call);
    let variables = match result {
        Ok(Reply::Bytes(bytes)) => bytes.into_vec(),
        Ok(_) => Vec::new(),
        Err(error) => return refuse(state, index, &worker, SlotState::Free, error),
    };
    let pid = if worker.forks_again() {
        process_tree::find_named(&raw_process::worker_name(worker.area.index))
    } else {
        used.ending.is_none().then_some(first)
    };
    let reaper = worker
        .has_namespace("pid")
        .then(|| process_tree::find_named(&raw_process::reaper_name(worker.area.index)))
        .flatten();
    let Some(pid) = pid.filter(|_| !call.is_cancelled()) else {
        // Its call was cancelled, or it has ended.
        for pid in reaper.into_iter().chain(pid) {
            let _ = signal::send(pid, libc::SIGKILL, false);
        }
        let error = if call.is_cancelled() {
            failure::cancelled()
        } else {
            failure::invalid("the worker ended while it was started")
        };
        return refuse(state, index, &worker, SlotState::Aborted, error);
    };
    let mut env = variables_in(&variables);
    let given = worker.spec.env.iter();
    env.extend(given.map(|(name, value)| (name.to_vec(), value.to_vec())));
    used.handed_over = true;
    shared.handover.push(SpawnedChild::Worker(SpawnedWorker {
        call,
        parent,
        slot: index,
        pid,
        reaper,
        area: worker.area,
        generation: worker.generation,
        root,
        env,
    }));
}

fn refuse(state: &mut State, index: usize, worker: &NewWorker, new: SlotState, error: WireError) {
    areas::give_back(worker.area.index);
    state.area.slot(index).tell(new);
    if let Some(used) = state.slots.remove(&index) {
        state.finish(used.call, Err(error));
    }
}

/// Makes every user and group of the guest one of a process's user namespace, under its number; or, for
/// an ordinary user, that user alone, as the namespace's root.
fn write_id_maps(pid: i32, uid: i32, gid: i32) -> Sys<()> {
    let write = |name: &str, text: &str| {
        file::write_at(roots::PROC, &format!("{pid}/{name}"), text.as_bytes())
    };
    if process::effective_ids().0 == 0 && uid == 0 {
        let all = format!("0 0 {}", u32::MAX);
        write("uid_map", &all)?;
        return write("gid_map", &all);
    }
    let _ = write("setgroups", "deny");
    write("uid_map", &format!("0 {uid} 1"))?;
    write("gid_map", &format!("0 {gid} 1"))
}

/// `NAME=value`, each terminated by a zero byte.
fn variables_in(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    bytes
        .split(|byte| *byte == 0)
        .filter_map(|variable| {
            let at = variable.iter().position(|byte| *byte == b'=')?;
            Some((variable[..at].to_vec(), variable[at + 1..].to_vec()))
        })
        .collect()
}
