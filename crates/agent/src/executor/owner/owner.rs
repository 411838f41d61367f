//! The handle of an owner: the calls of the main thread, and the owner's thread.

use super::queued_op::QueuedOp;
use super::slot_use::message_of;
use super::state::{RawProcess, State};
use super::{raw_process, schedule};
use crate::executor::areas;
use crate::executor::call::{Call, lock};
use crate::executor::process_tree::{self, kill_tree};
use crate::executor::root::Root;
use crate::executor::shared::Shared;
use crate::sys::area::Area;
use crate::sys::process::{self, ExitStatus};
use crate::sys::slot::{Slot, SlotState};
use crate::sys::{Errno, Sys, signal};
use provium_protocol::op::OpClass;
use provium_protocol::{Descriptor, Lane, Reply, WireError};
use std::sync::{Arc, Mutex};
use std::thread::Builder;

/// Stack size of an owner's thread; buffers are on the heap.
const STACK: usize = 128 * 1024;

#[derive(Debug)]
pub(in crate::executor) struct Owner {
    pub(in crate::executor) lane: Lane,
    area: Area,
    state: Mutex<State>,
}

/// Starts the thread of an owner.
pub(in crate::executor) fn start_thread(shared: &Arc<Shared>, owner: &Arc<Owner>) -> Sys<()> {
    let (shared, owner) = (Arc::clone(shared), Arc::clone(owner));
    Builder::new()
        .stack_size(STACK)
        .spawn(move || {
            process::name_thread(c"provium-owner");
            owner.serve(&shared);
        })
        .map(drop)
        .map_err(|error| error.raw_os_error().map_or(Errno::AGAIN, Errno))
}

impl Owner {
    /// An owner whose raw process is not forked yet. `env`: variables of its commands.
    pub(in crate::executor) fn new(
        lane: Lane,
        area: Area,
        root: Root,
        env: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Self {
        Self {
            lane,
            area,
            state: Mutex::new(State::new(lane, area, root, env)),
        }
    }

    /// Marks its raw process as running; the VM's raw process has forked it.
    pub(in crate::executor) fn set_running(&self, pid: i32, reaper: Option<i32>, generation: u64) {
        let mut state = lock(&self.state);
        state.raw_process = RawProcess::Running { pid, reaper };
        state.generation = generation;
    }

    /// How its raw process ended, if it will not get another.
    pub(in crate::executor) fn death(&self) -> Option<String> {
        match &lock(&self.state).raw_process {
            RawProcess::Ended(how) => Some(how.clone()),
            RawProcess::Closed => Some("was ended".to_owned()),
            _ => None,
        }
    }

    /// Why a call to it fails; `None` if it need not.
    pub(in crate::executor) fn refusal(&self) -> Option<WireError> {
        lock(&self.state).refusal()
    }

    /// The raw process, while there is one.
    pub(in crate::executor) fn raw_process(&self) -> Option<i32> {
        lock(&self.state).pid()
    }

    /// Whether the raw process that has the descriptor, by its generation, is still there.
    pub(in crate::executor) fn has_descriptor(&self, fd: Descriptor) -> bool {
        let state = lock(&self.state);
        fd.generation == state.generation && state.is_running()
    }

    /// Whether nothing is left of a worker that was closed.
    pub(in crate::executor) fn is_over(&self) -> bool {
        lock(&self.state).is_over()
    }

    // Turns.

    fn serve(&self, shared: &Shared) {
        loop {
            let heard = self.area.bell();
            self.turn(shared, true);
            let (timeout, is_over) = {
                let state = lock(&self.state);
                (state.timeout(), state.is_over())
            };
            if is_over {
                break;
            }
            self.area.await_bell(heard, timeout);
        }
        self.area.empty();
        areas::give_back(self.area.index);
    }

    /// Queues an operation.
    pub(in crate::executor) fn push(&self, shared: &Shared, queued: QueuedOp) {
        let needs_watching = {
            let mut state = lock(&self.state);
            let needs_watching = state.needs_watching(&queued.op);
            if queued.op.class() == OpClass::RawProcess {
                state.exact.push_back(queued);
            } else {
                state.operations.push_back(queued);
            }
            needs_watching
        };
        self.turn(shared, false);
        if needs_watching {
            self.area.ring();
        }
    }

    /// Does what can be done now. `own`: on the owner's thread.
    fn turn(&self, shared: &Shared, own: bool) {
        loop {
            let effects = {
                let mut state = lock(&self.state);
                if own && matches!(state.raw_process, RawProcess::Missing) {
                    raw_process::fork(shared, &mut state);
                }
                schedule::progress(shared, &mut state, own);
                std::mem::take(&mut state.effects)
            };
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                effect.apply(shared);
            }
        }
    }

    /// Has its thread look for events.
    pub(in crate::executor) fn wake(&self) {
        self.area.ring();
    }

    // Ends.

    /// Handles the exit status of the raw process, which the main thread has collected.
    pub(in crate::executor) fn note_end(&self, pid: i32, ending: ExitStatus) {
        let mut state = lock(&self.state);
        if state.pid() == Some(pid) {
            state.ending = Some(ending);
        }
        drop(state);
        self.area.ring();
    }

    /// Kills all its processes.
    pub(in crate::executor) fn kill_all(&self, shared: &Shared) {
        raw_process::kill_all(shared, &mut lock(&self.state));
    }

    /// Closes a worker; `call` is answered when its raw process has ended.
    pub(in crate::executor) fn close(&self, shared: &Shared, call: Arc<Call>) {
        let mut state = lock(&self.state);
        raw_process::kill_all(shared, &mut state);
        if state.is_running() {
            state.closing.push(call);
        } else {
            state.raw_process = RawProcess::Closed;
            state.finish(call, Ok(Reply::Done));
        }
        drop(state);
        self.area.ring();
        self.turn(shared, false);
    }

    /// Answers the calls that wait for the worker's end, although it has not ended.
    pub(in crate::executor) fn stop_waiting_for_end(&self, call: &Call) {
        let mut state = lock(&self.state);
        let before = state.closing.len();
        state.closing.retain(|closing| closing.id != call.id);
        if state.closing.len() < before {
            state.raw_process = RawProcess::Closed;
        }
    }

    // Cancelling.

    /// Withdraws an operation that has not started, or stops it if that can be done at once. Returns whether
    /// its call has to be answered now.
    pub(in crate::executor) fn withdraw(&self, call: &Arc<Call>) -> bool {
        let mut state = lock(&self.state);
        let before = state.exact.len() + state.operations.len();
        state
            .exact
            .retain(|queued| !Arc::ptr_eq(&queued.call, call));
        state
            .operations
            .retain(|queued| !Arc::ptr_eq(&queued.call, call));
        if state.exact.len() + state.operations.len() < before {
            return true;
        }
        let found = state
            .slots
            .iter()
            .find(|(_, used)| Arc::ptr_eq(&used.call, call));
        let Some((index, used)) = found else {
            return false;
        };
        if used.handed_over {
            // A connection ends by itself, once its pipes are closed.
            if let Some(pid) = used.pid.filter(|_| !used.is_connection) {
                kill_tree(pid);
            }
            // A command is given a moment to end, so that its output comes first.
            return used.command.is_none();
        }
        let index = *index;
        state.abort_slot(index);
        let is_posted = state.posted.as_ref().and_then(|posted| posted.slot()) == Some(index);
        if !is_posted
            && let Some(used) = state.slots.remove(&index)
            && let Some(worker) = used.worker
        {
            areas::give_back(worker.area.index);
        }
        true
    }

    /// Interrupts the thread that makes a raw call. A thread that is just about to block is missed, so this
    /// is repeated until the call is answered.
    pub(in crate::executor) fn interrupt(&self, call: &Call) {
        let state = lock(&self.state);
        let Some(pid) = state.pid() else { return };
        if state
            .posted
            .as_ref()
            .is_some_and(|posted| posted.is_of(call))
        {
            signal::interrupt(pid, pid);
        }
        for thread in state.threads.values() {
            let of = &thread.raw.call;
            if of.id == call.id && !of.is_answered() {
                signal::interrupt(pid, thread.tid);
            }
        }
    }

    /// Ends the raw process if it is in this call, which cannot be interrupted.
    pub(in crate::executor) fn give_up(&self, shared: &Shared, call: &Call) {
        let mut state = lock(&self.state);
        if state
            .posted
            .as_ref()
            .is_some_and(|posted| posted.is_of(call))
        {
            raw_process::give_up(shared, &mut state);
        }
        drop(state);
        self.turn(shared, false);
    }

    /// Signals a command, and with `tree` also what descends from it without being in its group.
    pub(in crate::executor) fn signal(
        &self,
        call: &Call,
        number: i32,
        group: bool,
        tree: bool,
    ) -> Sys<()> {
        let strays = match call.process() {
            Some(pid) if group => process_tree::strays_of(pid),
            _ => Vec::new(),
        };
        call.signal(number, group)?;
        if tree {
            for stray in &strays {
                stray.signal(number);
            }
        }
        let mut state = lock(&self.state);
        if state.is_worker() {
            // They are ended with the worker, wherever their parents are by then.
            state.strays.extend(strays);
        }
        Ok(())
    }

    // Slots, for the main thread.

    /// An operation process has ended that the main thread knows nothing of. Returns false if it was handed
    /// over to the main thread in this moment.
    pub(in crate::executor) fn operation_ended(
        &self,
        index: usize,
        pid: i32,
        ending: ExitStatus,
    ) -> bool {
        let mut state = lock(&self.state);
        let Some(used) = state.slots.get_mut(&index) else {
            return true;
        };
        if used.pid != Some(pid) {
            return true;
        }
        if used.handed_over {
            return false;
        }
        used.ending = Some(ending);
        drop(state);
        self.area.ring();
        true
    }

    /// Ends the use of a slot, and wakes the process that waits there.
    pub(in crate::executor) fn release_slot(&self, index: usize, new: SlotState) {
        let mut state = lock(&self.state);
        state.slots.remove(&index);
        self.area.slot(index).tell(new);
        if state.is_over() {
            // Its thread waits for the last one.
            self.area.ring();
        }
    }

    /// The slot of a process.
    pub(in crate::executor) fn slot(&self, index: usize) -> &'static Slot {
        self.area.slot(index)
    }

    /// The encoded result that a process has left; `None` if it has left none.
    pub(in crate::executor) fn result_in(&self, index: usize, pid: i32) -> Option<Vec<u8>> {
        let slot = self.area.slot(index);
        (slot.get() == SlotState::Done).then(|| message_of(slot.outcome().message, pid))
    }
}
