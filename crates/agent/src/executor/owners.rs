//! The owners of all lanes. Belongs to the main thread.

use super::areas;
use super::children::Child;
use super::owner::{Owner, start_thread};
use super::shared::Shared;
use super::spawned::SpawnedWorker;
use crate::failure::{self, OpResult};
use crate::sys::slot::SlotState;
use crate::sys::{Sys, signal};
use provium_protocol::{Lane, Reply};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Owners {
    current: Vec<Arc<Owner>>,
    /// Closed workers of which some processes may have to be collected.
    retired: Vec<Arc<Owner>>,
}

impl Owners {
    /// The owner of a lane that takes calls.
    pub(super) fn get(&self, lane: Lane) -> Option<&Arc<Owner>> {
        self.current.iter().find(|owner| owner.lane == lane)
    }

    /// The owner of a lane, even if it was retired.
    pub(super) fn get_any(&self, lane: Lane) -> Option<&Arc<Owner>> {
        self.all().find(|owner| owner.lane == lane)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Owner>> {
        self.current.iter().chain(&self.retired)
    }

    /// Adds an owner and starts its thread.
    pub(super) fn add(&mut self, shared: &Arc<Shared>, owner: Arc<Owner>) -> Sys<()> {
        start_thread(shared, &owner)?;
        self.current.push(owner);
        Ok(())
    }

    /// Takes a worker's lane out of use.
    pub(super) fn retire(&mut self, shared: &Shared, lane: Lane) -> Option<Arc<Owner>> {
        self.retired.retain(|owner| {
            let is_over = owner.is_over();
            if is_over {
                shared.calls.forget_lane(owner.lane);
            }
            !is_over
        });
        let at = self.current.iter().position(|owner| owner.lane == lane)?;
        let owner = self.current.swap_remove(at);
        self.retired.push(Arc::clone(&owner));
        Some(owner)
    }

    /// Accepts a worker that has started, and answers the call for it.
    pub(super) fn accept(&mut self, shared: &Arc<Shared>, worker: SpawnedWorker) {
        let (slot, area) = (worker.slot, worker.area);
        let parent = self.get_any(worker.parent).cloned();
        let call = Arc::clone(&worker.call);
        let result = self.start(shared, worker);
        let new = if result.is_ok() {
            area.adopt();
            SlotState::Taken
        } else {
            SlotState::Aborted
        };
        if let Some(parent) = parent {
            parent.release_slot(slot, new);
        }
        shared.calls.finish(&call, result);
    }

    fn start(&mut self, shared: &Arc<Shared>, worker: SpawnedWorker) -> OpResult {
        let SpawnedWorker {
            call,
            pid,
            reaper,
            area,
            root,
            env,
            generation,
            ..
        } = worker;
        let kill = || {
            for pid in reaper.into_iter().chain([pid]) {
                let _ = signal::send(pid, libc::SIGKILL, false);
            }
            areas::give_back(area.index);
        };
        if call.is_cancelled() || call.is_answered() {
            kill();
            return Err(failure::cancelled());
        }
        let lane = shared.next_lane();
        let owner = Arc::new(Owner::new(lane, area, root, env));
        owner.set_running(pid, reaper, generation);
        if let Some(reaper) = reaper {
            shared.children.adopt(reaper, Child::Other);
        }
        // It was known as an operation of its parent.
        let ending = shared.children.adopt(pid, Child::RawProcess(lane));
        if let Err(errno) = self.add(shared, Arc::clone(&owner)) {
            kill();
            return Err(failure::os("start a thread", errno));
        }
        if let Some(ending) = ending {
            owner.note_end(pid, ending);
        }
        Ok(Reply::Worker {
            lane,
            pid: pid.unsigned_abs(),
        })
    }
}
