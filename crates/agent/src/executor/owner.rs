//! An owner: the VM or a worker, with its raw process and the jobs that wait for that process.
//!
//! Jobs are of two kinds. *Exact* jobs (raw calls, opening and closing files, workers) need the raw
//! process itself, and wait for it, in order. *Operations* (commands, files) need a process with its state:
//! the raw process forks one for each; while it is busy, the executor forks one that joins its state.
//!
//! The state is behind one lock. A thread that has an event takes a turn ([`Owner::turn`]): the main thread
//! when it adds a job, the owner's thread when the bell rang. Nothing blocks while the lock is held;
//! messages are collected, and sent afterwards. The raw process is forked by the owner's thread
//! only, because it dies with the thread that forked it.
//!
//! Long because every change of an owner's life is made here, under that lock.

use super::background::Background;
use super::call::{Call, lock};
use super::operations::SlotUse;
use super::root::Root;
use super::shared::{Child, Shared};
use super::steps::{Posted, ThreadUse};
use super::table::Table;
use super::tree::{self, Stray};
use crate::failure::{self, OpResult};
use crate::raw_process;
use crate::sys::area::{Area, SLOTS, THREADS, thread_state};
use crate::sys::process::{self, Ending, Forked};
use crate::sys::slot::{Message, SlotState};
use crate::sys::{Errno, Sys, memory, signal};
use provium_protocol::op::OpClass;
use provium_protocol::{Descriptor, Event, Lane, Op, WireError};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::Duration;

/// The first bytes of an encoded error.
const ERROR: &[u8] = b"\x81\xa3Err";
/// How long an operation waits for a busy raw process.
pub(super) const FORK_BESIDE_AFTER: Duration = Duration::from_millis(5);
/// How long a job waits before its caller is informed that it waits.
pub(super) const NOTIFY_AFTER: Duration = Duration::from_millis(200);
/// Interval of the checks whether a raw process has answered, and whether it is still the same program.
const LOOK: Duration = Duration::from_millis(10);
/// Stack size of an owner's thread; buffers are on the heap.
const STACK: usize = 128 * 1024;

/// A job of a call.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) call: Arc<Call>,
    pub(super) op: Op,
}

impl Job {
    /// Whether its caller wants to be informed that it waits.
    fn keeps_waiting(&self) -> bool {
        matches!(&self.op, Op::Syscall(call) if call.background) && !self.call.is_informed()
    }
}

/// The raw process.
#[derive(Debug)]
pub(super) enum Life {
    /// The owner's thread has to fork it.
    Wanted,
    Running {
        pid: i32,
        /// Process 1 of its pid namespace, when it has one of its own.
        reaper: Option<i32>,
    },
    /// It was a worker's; how it ended.
    Dead(String),
    /// The worker was closed.
    Closed,
}

/// Actions to take after the lock was released.
#[derive(Debug)]
pub(super) enum Action {
    Finish(Arc<Call>, OpResult),
    /// Bytes for the output channel, and an encoded result.
    FinishEncoded(Arc<Call>, Vec<u8>, Vec<u8>),
    Notify(Arc<Call>, Event),
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) life: Life,
    pub(super) generation: u64,
    pub(super) posted: Option<Posted>,
    pub(super) exact: VecDeque<Job>,
    pub(super) operations: VecDeque<Job>,
    pub(super) slots: Table<usize, SlotUse>,
    pub(super) threads: Table<usize, ThreadUse>,
    /// Memory in the raw process that can be unmapped.
    pub(super) unmap: Vec<u64>,
    pub(super) root: Root,
    /// Children of the raw process are in a pid namespace that it is not in itself.
    pub(super) odd_children: bool,
    /// Children that raw calls made, and descendants of commands that were signalled.
    pub(super) strays: Vec<Stray>,
    ended: Option<Ending>,
    /// The raw process could not be interrupted and is being killed.
    gave_up: bool,
    closing: Vec<Arc<Call>>,
    pub(super) actions: Vec<Action>,
}

#[derive(Debug)]
pub(crate) struct Owner {
    pub(super) lane: Lane,
    pub(super) area: Area,
    /// Variables of its commands.
    pub(super) env: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) background: Background,
    pub(super) state: Mutex<State>,
}

/// Starts the thread of an owner.
pub(super) fn start_thread(shared: &Arc<Shared>, owner: &Arc<Owner>) -> Sys<()> {
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
    /// An owner whose raw process is not forked yet.
    pub(super) fn new(lane: Lane, area: Area, root: Root, env: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        Self {
            lane,
            area,
            env,
            background: Background::default(),
            state: Mutex::new(State {
                life: Life::Wanted,
                generation: 0,
                posted: None,
                exact: VecDeque::new(),
                operations: VecDeque::new(),
                slots: Table::default(),
                threads: Table::default(),
                unmap: Vec::new(),
                root,
                odd_children: false,
                strays: Vec::new(),
                ended: None,
                gave_up: false,
                closing: Vec::new(),
                actions: Vec::new(),
            }),
        }
    }

    /// Marks its raw process as running; it was forked by that of the VM.
    pub(super) fn runs(&self, pid: i32, reaper: Option<i32>, generation: u64) {
        let mut state = lock(&self.state);
        state.life = Life::Running { pid, reaper };
        state.generation = generation;
    }

    fn is_worker(&self) -> bool {
        self.lane >= Lane::FIRST_WORKER
    }

    /// How its raw process ended, if it will not get another.
    pub(super) fn death(&self) -> Option<String> {
        match &lock(&self.state).life {
            Life::Dead(how) => Some(how.clone()),
            Life::Closed => Some("was ended".to_owned()),
            _ => None,
        }
    }

    /// Why a call to it fails; `None` when it need not.
    pub(super) fn refusal(&self) -> Option<WireError> {
        match &lock(&self.state).life {
            Life::Dead(how) => Some(failure::lane_died(how)),
            Life::Closed => Some(failure::no_such_lane(self.lane)),
            _ => None,
        }
    }

    /// The raw process, while there is one.
    pub(super) fn raw_process(&self) -> Option<i32> {
        match lock(&self.state).life {
            Life::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// Whether the raw process that has the descriptor, by its generation, is still there.
    pub(super) fn has_descriptor(&self, fd: Descriptor) -> bool {
        let state = lock(&self.state);
        fd.generation == state.generation && matches!(state.life, Life::Running { .. })
    }

    // Turns.

    fn serve(self: &Arc<Self>, shared: &Arc<Shared>) {
        loop {
            let heard = self.area.bell();
            self.turn(shared, true);
            let (timeout, over) = {
                let state = lock(&self.state);
                (state.timeout(), state.is_over())
            };
            if over {
                break;
            }
            self.area.await_bell(heard, timeout);
        }
        self.area.empty();
        super::workers::give_back(self.area.index);
    }

    /// Adds a job.
    pub(super) fn push(self: &Arc<Self>, shared: &Arc<Shared>, job: Job) {
        let ring = {
            let mut state = lock(&self.state);
            let ring = state.needs_watching(&job.op);
            if job.op.class() == OpClass::RawProcess {
                state.exact.push_back(job);
            } else {
                state.operations.push_back(job);
            }
            ring
        };
        self.turn(shared, false);
        if ring {
            self.area.ring();
        }
    }

    /// Does what can be done now. `own`: on the owner's thread.
    pub(super) fn turn(self: &Arc<Self>, shared: &Arc<Shared>, own: bool) {
        loop {
            let actions = {
                let mut state = lock(&self.state);
                if own && matches!(state.life, Life::Wanted) {
                    self.fork_raw_process(shared, &mut state);
                }
                self.progress(shared, &mut state, own);
                std::mem::take(&mut state.actions)
            };
            if actions.is_empty() {
                return;
            }
            for action in actions {
                perform(shared, action);
            }
        }
    }

    fn progress(self: &Arc<Self>, shared: &Arc<Shared>, state: &mut State, own: bool) {
        if let Some(ending) = state.ended.take() {
            self.raw_process_ended(shared, state, ending);
        }
        if state.posted.is_some() && self.area.has_ended() && own {
            self.raw_process_changed(state);
        }
        loop {
            self.complete(shared, state);
            self.look_at_slots(shared, state);
            self.look_at_threads(state);
            if !self.post_next(shared, state) {
                break;
            }
        }
        if own {
            self.relieve(shared, state);
        }
    }

    fn fork_raw_process(self: &Arc<Self>, shared: &Shared, state: &mut State) {
        shared.follow_root();
        state.root = shared.root();
        state.generation = shared.next_generation();
        state.odd_children = false;
        state.gave_up = false;
        self.area.withdraw();
        self.area.forget_end();
        let area = self.area;
        let limit = shared.descriptors;
        shared.begin_fork();
        match process::fork(0) {
            Ok(Forked::Child) => {
                let _ = process::set_limit(libc::RLIMIT_NOFILE, limit);
                raw_process::become_raw_process(area)
            }
            Ok(Forked::Parent(pid)) => {
                state.life = Life::Running { pid, reaper: None };
                if let Some(ending) = shared.adopt(pid, Child::Raw(Arc::clone(self))) {
                    state.ended = Some(ending);
                    self.area.ring();
                }
            }
            Err(errno) => {
                // Those who wait learn why; the next job tries again.
                let error = failure::os("start a raw process", errno);
                let jobs = state.exact.drain(..).chain(state.operations.drain(..));
                let failed: Vec<_> = jobs
                    .map(|job| Action::Finish(job.call, Err(error.clone())))
                    .collect();
                state.actions.extend(failed);
            }
        }
        shared.end_fork();
    }

    // Ends.

    /// Handles the exit status of the raw process, which the main thread has collected.
    pub(super) fn note_end(&self, pid: i32, ending: Ending) {
        let mut state = lock(&self.state);
        if matches!(state.life, Life::Running { pid: running, .. } if running == pid) {
            state.ended = Some(ending);
        }
        drop(state);
        self.area.ring();
    }

    /// It was replaced by another program, or its main thread has ended without it.
    fn raw_process_changed(&self, state: &mut State) {
        let Life::Running { pid, .. } = state.life else {
            return;
        };
        if !state.gave_up {
            state.gave_up = true;
            let _ = signal::send(pid, libc::SIGKILL, true);
            let _ = signal::send(pid, libc::SIGKILL, false);
        }
    }

    fn raw_process_ended(self: &Arc<Self>, shared: &Shared, state: &mut State, ending: Ending) {
        let executed = state.executes();
        let how = match (executed, state.gave_up) {
            (true, true) => "became another program, which was ended".to_owned(),
            (true, false) => format!("became another program, which {ending}"),
            (false, _) => ending.to_string(),
        };
        self.lose_raw_process(shared, state, &how);
        if self.is_worker() {
            self.background.worsen(match ending {
                Ending::Exited(code) => code,
                Ending::Signalled(number) => 128 + number,
            });
        }
    }

    /// The raw process has ended, or counts as ended: answers the requests that it worked on.
    fn lose_raw_process(self: &Arc<Self>, shared: &Shared, state: &mut State, how: &str) {
        let reaper = match state.life {
            Life::Running { reaper, .. } => reaper,
            _ => None,
        };
        self.abandon_posted(shared, state, how);
        for (index, thread) in state.threads.take() {
            let cell = self.area.thread(index);
            cell.state.store(thread_state::FREE, Ordering::Release);
            cell.alive.store(0, Ordering::Release);
            state.fail(thread.call, how);
        }
        for stray in state.strays.drain(..) {
            stray.signal(libc::SIGKILL);
        }
        state.unmap.clear();
        if self.is_worker() {
            let closed = matches!(state.life, Life::Closed) || !state.closing.is_empty();
            for job in state.exact.drain(..).chain(state.operations.drain(..)) {
                state
                    .actions
                    .push(Action::Finish(job.call, Err(failure::lane_died(how))));
            }
            state.life = if closed {
                Life::Closed
            } else {
                Life::Dead(how.to_owned())
            };
            if let Some(reaper) = reaper {
                let _ = signal::send(reaper, libc::SIGKILL, false);
            }
            for call in std::mem::take(&mut state.closing) {
                state
                    .actions
                    .push(Action::Finish(call, Ok(provium_protocol::Reply::Done)));
            }
            self.end_operations(shared);
        } else {
            state.life = Life::Wanted;
            self.area.ring();
        }
    }

    /// Kills its commands and operation processes, and their descendants.
    fn end_operations(self: &Arc<Self>, shared: &Shared) {
        for pid in shared.operations_of(self) {
            kill_tree(pid);
        }
    }

    /// Kills all its processes.
    pub(super) fn end_everything(self: &Arc<Self>, shared: &Shared) {
        let mut state = lock(&self.state);
        self.end_operations(shared);
        if let Life::Running { pid, reaper } = state.life {
            for pid in reaper.into_iter().chain([pid]) {
                let _ = signal::send(pid, libc::SIGKILL, false);
            }
        }
        for stray in state.strays.drain(..) {
            stray.signal(libc::SIGKILL);
        }
        for index in state.slots.keys() {
            self.abort_slot(&state, *index);
        }
    }

    /// Closes a worker; `call` is answered when its raw process has ended.
    pub(super) fn close(self: &Arc<Self>, shared: &Shared, call: Arc<Call>) {
        self.end_everything(shared);
        let mut state = lock(&self.state);
        match state.life {
            Life::Running { .. } => state.closing.push(call),
            _ => {
                state.life = Life::Closed;
                state
                    .actions
                    .push(Action::Finish(call, Ok(provium_protocol::Reply::Done)));
            }
        }
        drop(state);
        self.area.ring();
    }

    /// Answers the calls that wait for the worker's end, although it has not ended.
    pub(super) fn stop_waiting_for_end(&self, call: &Call) -> bool {
        let mut state = lock(&self.state);
        let before = state.closing.len();
        state.closing.retain(|closing| closing.id != call.id);
        let found = state.closing.len() < before;
        if found {
            state.life = Life::Closed;
        }
        found
    }

    // Cancelling.

    /// Withdraws a job that has not started, or stops it if it can be stopped at once.
    pub(super) fn withdraw(&self, shared: &Shared, call: &Arc<Call>) -> bool {
        let mut state = lock(&self.state);
        let before = state.exact.len() + state.operations.len();
        state.exact.retain(|job| !Arc::ptr_eq(&job.call, call));
        state.operations.retain(|job| !Arc::ptr_eq(&job.call, call));
        if state.exact.len() + state.operations.len() < before {
            return true;
        }
        self.stop_operation(shared, &mut state, call)
    }

    /// Interrupts the thread that makes a raw call. A thread that is just about to block is missed, so this
    /// is repeated until the call is answered.
    pub(super) fn interrupt(&self, call: &Call) {
        let state = lock(&self.state);
        let Life::Running { pid, .. } = state.life else {
            return;
        };
        if state
            .posted
            .as_ref()
            .is_some_and(|posted| posted.is_of(call))
        {
            signal::interrupt(pid, pid);
        }
        for thread in state.threads.values() {
            if thread.call.id == call.id && !thread.call.is_answered() {
                signal::interrupt(pid, thread.tid);
            }
        }
    }

    /// Ends the raw process although its call cannot be interrupted. Jobs that have not started are passed
    /// to the next raw process.
    pub(super) fn give_up(self: &Arc<Self>, shared: &Arc<Shared>, call: &Call) {
        let mut state = lock(&self.state);
        let is_at_it = state
            .posted
            .as_ref()
            .is_some_and(|posted| posted.is_of(call));
        if is_at_it && let Life::Running { pid, .. } = state.life {
            let _ = signal::send(pid, libc::SIGKILL, false);
            state.gave_up = true;
            self.lose_raw_process(
                shared,
                &mut state,
                "could not be interrupted and was killed",
            );
        }
        drop(state);
        self.turn(shared, false);
    }

    /// Signals a command, and with `tree` also what descends from it without being in its group.
    pub(super) fn signal(&self, call: &Call, number: i32, group: bool, tree: bool) -> Sys<()> {
        let strays = match call.process() {
            Some(pid) if group => tree::strays_of(pid),
            _ => Vec::new(),
        };
        call.signal(number, group)?;
        if tree {
            for stray in &strays {
                stray.signal(number);
            }
        }
        if self.is_worker() {
            // They are ended with the worker, wherever their parents are by then.
            lock(&self.state).strays.extend(strays);
        }
        Ok(())
    }

    // Slots, for the main thread.

    /// An operation process has ended that the main thread knows nothing of. False when it was handed
    /// over to the main thread in this moment.
    pub(super) fn operation_ended(&self, index: usize, pid: i32, ending: Ending) -> bool {
        let mut state = lock(&self.state);
        let Some(slot) = state.slots.get_mut(&index) else {
            return true;
        };
        if !slot.is_process(pid) {
            return true;
        }
        if slot.handed_over {
            return false;
        }
        slot.ending = Some(ending);
        drop(state);
        self.area.ring();
        true
    }

    pub(super) fn free_slot(&self, index: usize) {
        let mut state = lock(&self.state);
        state.slots.remove(&index);
        self.area.slot(index).tell(SlotState::Free);
        if state.is_over() {
            // Its thread waits for the last one.
            self.area.ring();
        }
    }

    /// The encoded result that a process has left.
    pub(super) fn take_message(&self, index: usize, pid: i32) -> Vec<u8> {
        message_of(self.area.slot(index).outcome().message, pid)
    }

    pub(super) fn new_slot(&self, state: &State) -> Option<usize> {
        (0..SLOTS).find(|index| !state.slots.contains_key(index))
    }

    pub(super) fn new_thread(&self, state: &State) -> Option<usize> {
        (0..THREADS).find(|index| {
            !state.threads.contains_key(index)
                && self.area.thread(*index).alive.load(Ordering::Acquire) == 0
        })
    }
}

impl State {
    /// When to check again even if the bell was not rung.
    fn timeout(&self) -> Option<Duration> {
        let posted = self.posted.as_ref()?;
        // A process that was forked and killed at once has rung before the raw process could answer.
        if posted.slot().is_some()
            || posted.executes()
            || (!self.threads.is_empty() && posted.is_raw_call())
        {
            return Some(LOOK);
        }
        let waited = posted.since.elapsed();
        let until = if !self.operations.is_empty() {
            posted.relief_after()
        } else if posted.keeps_waiting() || self.exact.iter().any(Job::keeps_waiting) {
            NOTIFY_AFTER
        } else {
            return None;
        };
        Some(until.saturating_sub(waited).max(Duration::from_millis(1)))
    }

    fn is_over(&self) -> bool {
        matches!(self.life, Life::Closed) && self.slots.is_empty() && self.actions.is_empty()
    }

    /// Whether the owner's thread must learn of a job at once.
    fn needs_watching(&self, op: &Op) -> bool {
        let executes = matches!(op, Op::Syscall(call) if crate::sys::raw::executes(call.nr));
        executes
            || matches!(op, Op::Syscall(call) if call.background)
            || self.posted.is_some()
            || !self.threads.is_empty()
            || !matches!(self.life, Life::Running { .. })
    }

    fn executes(&self) -> bool {
        self.posted.as_ref().is_some_and(Posted::executes)
            || self.threads.values().any(ThreadUse::executes)
    }

    pub(super) fn finish(&mut self, call: Arc<Call>, result: OpResult) {
        self.actions.push(Action::Finish(call, result));
    }

    pub(super) fn fail(&mut self, call: Arc<Call>, how: &str) {
        let error = if call.is_cancelled() {
            failure::cancelled()
        } else {
            failure::lane_died(how)
        };
        self.finish(call, Err(error));
    }
}

/// Kills a process with its group, and what descends from it outside of the group.
pub(super) fn kill_tree(pid: i32) {
    let strays = tree::strays_of(pid);
    let _ = signal::send(pid, libc::SIGKILL, true);
    let _ = signal::send(pid, libc::SIGKILL, false);
    for stray in strays {
        stray.signal(libc::SIGKILL);
    }
}

pub(super) fn message_of(message: Message, pid: i32) -> Vec<u8> {
    match message {
        Message::Here(bytes) => bytes,
        Message::There { address, len } => {
            memory::read_of(pid, address, len.min(provium_protocol::frame::MAX_MESSAGE))
                .unwrap_or_default()
        }
    }
}

fn perform(shared: &Arc<Shared>, action: Action) {
    match action {
        Action::Finish(call, result) => shared.finish(&call, result),
        Action::FinishEncoded(call, data, message) => {
            use provium_protocol::StreamId;
            if !data.is_empty() {
                shared.data(&call, StreamId::Output, &data);
            }
            if call.sends_output && !message.starts_with(ERROR) {
                shared.end(&call, StreamId::Output);
            }
            shared.finish_encoded(&call, &message);
        }
        Action::Notify(call, event) => shared.event(&call, &event),
    }
}
