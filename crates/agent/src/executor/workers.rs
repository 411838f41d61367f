//! Starting workers: areas, namespaces, and the steps that the executor has to take for them.

use super::call::{Call, lock};
use super::owner::{self, Action, Owner, State};
use super::shared::{Child, Shared};
use super::steps::number;
use super::tree;
use crate::failure::{self, OpResult};
use crate::raw_process;
use crate::roots;
use crate::sys::area::{AREAS, Area, Code};
use crate::sys::slot::{PipeEnd, SlotState, Ticket};
use crate::sys::{Errno, Sys, file, process, signal};
use provium_protocol::op::WorkerSpec;
use provium_protocol::{Reply, codec};
use std::sync::{Arc, Mutex};

/// A worker that is being started.
#[derive(Debug)]
pub(super) struct NewWorker {
    pub(super) area: Area,
    pub(super) generation: u64,
    pub(super) spec: WorkerSpec,
}

/// Areas that are in use, by index. The first is the VM's.
static IN_USE: Mutex<[bool; AREAS]> = Mutex::new([false; AREAS]);

fn take_area() -> Option<Area> {
    let mut in_use = lock(&IN_USE);
    let index = (1..AREAS).find(|index| !in_use[*index])?;
    in_use[index] = true;
    Area::of(index)
}

/// Gives an area back.
pub(super) fn give_back(index: usize) {
    if let Some(used) = lock(&IN_USE).get_mut(index) {
        *used = false;
    }
}

impl NewWorker {
    /// Whether its raw process is a grandchild of the one that forks it.
    pub(super) fn forks_again(&self) -> bool {
        self.has("pid") || self.has("time")
    }

    fn has(&self, name: &str) -> bool {
        self.spec.namespaces.iter().any(|space| space == name)
    }
}

impl Owner {
    pub(super) fn fork_worker(
        &self,
        shared: &Shared,
        state: &mut State,
        call: Arc<Call>,
        spec: &WorkerSpec,
    ) {
        if self.lane >= provium_protocol::Lane::FIRST_WORKER {
            let error = failure::invalid("a worker starts no workers");
            return state.finish(call, Err(error));
        }
        let payload = codec::encode(spec);
        let (Some(slot), Some(area)) = (self.new_slot(state), take_area()) else {
            let error = failure::os("fork a worker", Errno::AGAIN);
            return state.finish(call, Err(error));
        };
        if !self.area.put_payload(&payload) {
            give_back(area.index);
            let error = failure::invalid("the worker's options are too long");
            return state.finish(call, Err(error));
        }
        area.empty();
        let worker = NewWorker {
            area,
            generation: shared.next_generation(),
            spec: spec.clone(),
        };
        let ticket = Ticket::next();
        let arguments = [
            number(slot),
            ticket.number(),
            self.area.payload().cast_signed(),
            number(payload.len()),
            number(area.index),
        ];
        self.area.slot(slot).expect(ticket);
        state.add_worker(slot, ticket, call, worker);
        shared.begin_fork();
        self.post_worker(state, slot, Code::Worker, &arguments);
    }

    /// Maps users and groups of a user namespace that a worker has just made.
    pub(super) fn map_ids(&self, state: &State, index: usize) {
        let slot = self.area.slot(index);
        let (uid, gid) = (slot.end(PipeEnd::Input), slot.end(PipeEnd::Output));
        if let (Some(pid), Some(uid), Some(gid)) = (state.process_in(index), uid, gid) {
            // Where this is not allowed, the worker tries for itself.
            let _ = map_ids(pid, uid, gid);
        } else if state.process_in(index).is_none() {
            // Its number is about to be known.
            return;
        }
        slot.tell(SlotState::Taken);
    }

    /// A worker is ready, or has failed to start.
    pub(super) fn worker_reported(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        state: &mut State,
        index: usize,
    ) {
        let Some(first) = state.process_in(index) else {
            // The fork is about to be reported.
            return;
        };
        let slot = self.area.slot(index);
        let message = self.take_message(index, first);
        let Some((call, worker)) = state.remove_worker(index) else {
            return;
        };
        let result = codec::decode::<OpResult>(&message)
            .unwrap_or_else(|_| Err(failure::invalid("the worker's report cannot be read")));
        let variables = match result {
            Ok(Reply::Bytes(bytes)) => bytes.into_vec(),
            Ok(_) => Vec::new(),
            Err(error) => {
                give_back(worker.area.index);
                slot.tell(SlotState::Free);
                return state.finish(call, Err(error));
            }
        };
        let again = worker.forks_again();
        let pid = if again {
            tree::find_named(&raw_process::worker_name(worker.area.index))
        } else {
            Some(first)
        };
        let reaper = worker
            .has("pid")
            .then(|| tree::find_named(&raw_process::reaper_name(worker.area.index)))
            .flatten();
        let Some(pid) = pid.filter(|_| !call.is_cancelled()) else {
            // Its call was cancelled, or it has ended.
            for pid in reaper.into_iter().chain(pid) {
                let _ = signal::send(pid, libc::SIGKILL, false);
            }
            give_back(worker.area.index);
            slot.tell(SlotState::Aborted);
            let error = if call.is_cancelled() {
                failure::cancelled()
            } else {
                failure::invalid("the worker ended while it was started")
            };
            return state.finish(call, Err(error));
        };
        let mut env = variables_in(&variables);
        let given = worker.spec.env.iter();
        env.extend(given.map(|(name, value)| (name.to_vec(), value.to_vec())));
        let lane = shared.next_lane();
        let new = Arc::new(Owner::new(lane, worker.area, state.root, env));
        new.runs(pid, reaper, worker.generation);
        if let Some(reaper) = reaper {
            shared.adopt(reaper, Child::Other);
        }
        shared.readopt(pid, Child::Raw(Arc::clone(&new)), &new);
        shared.add_owner(&new);
        if let Err(errno) = owner::start_thread(shared, &new) {
            new.end_everything(shared);
            shared.remove_owner(lane);
            slot.tell(SlotState::Aborted);
            return state.finish(call, Err(failure::os("start a thread", errno)));
        }
        worker.area.adopt();
        slot.tell(SlotState::Taken);
        let reply = Reply::Worker {
            lane,
            pid: pid.unsigned_abs(),
        };
        state.actions.push(Action::Finish(call, Ok(reply)));
    }
}

/// Makes every user and group of the guest one of a process's user namespace, under its number; or, for
/// an ordinary user, that user alone, as the namespace's root.
fn map_ids(pid: i32, uid: i32, gid: i32) -> Sys<()> {
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
