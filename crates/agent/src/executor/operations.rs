//! Operation processes, from the executor's side: forks them, takes their pipes, collects their results.

use super::call::Call;
use super::command::{self, Kind, Started};
use super::owner::{Action, Job, Owner, State, kill_tree, message_of};
use super::shared::{Child, Shared};
use super::steps::{Posted, address};
use super::tree;
use super::workers::{self, NewWorker};
use crate::failure;
use crate::raw_process;
use crate::roots;
use crate::sys::area::PAYLOAD;
use crate::sys::process::{self, Ending, Forked};
use crate::sys::slot::{Message, PipeEnd, SlotState, Ticket};
use crate::sys::{Errno, Sys, fd, file};
use provium_protocol::op::Stdin;
use provium_protocol::{Channel, ErrorKind, Op, WireError, codec};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// The kernel's limit on the size of a program's arguments and environment.
const ARGUMENTS: usize = 6 * 1024 * 1024;

/// An operation process.
#[derive(Debug)]
pub(super) struct SlotUse {
    pub(super) call: Arc<Call>,
    ticket: Ticket,
    /// The job, to start it again if the raw process ends before the operation process was forked.
    pub(super) op: Option<Op>,
    /// Once it is known.
    pub(super) pid: Option<i32>,
    pub(super) ending: Option<Ending>,
    /// Its pipes were passed to the main thread, which answers the call.
    pub(super) handed_over: bool,
    input_bytes: Option<Vec<u8>>,
    pub(super) worker: Option<NewWorker>,
    command: Option<CommandUse>,
    /// It is a connection to a server.
    connects: bool,
}

#[derive(Debug, Clone, Copy)]
struct CommandUse {
    terminal: bool,
    collect: Option<usize>,
}

impl SlotUse {
    pub(super) fn is_process(&self, pid: i32) -> bool {
        self.pid == Some(pid)
    }

    /// Whether the first process of a worker has ended because another one continues its work.
    fn is_succeeded(&self, ending: Ending) -> bool {
        self.worker.as_ref().is_some_and(NewWorker::forks_again) && ending == Ending::Exited(0)
    }
}

impl Owner {
    /// Prepares a slot for the job; `None` if all slots are in use, or the job is refused.
    pub(super) fn prepare(&self, state: &mut State, job: Job) -> Option<(usize, Vec<u8>)> {
        let Job { call, mut op } = job;
        if call.is_cancelled() {
            state.finish(call, Err(failure::cancelled()));
            return None;
        }
        if let Some(fd) = op.descriptor()
            && fd.generation != 0
            && fd.generation != state.generation
        {
            state.finish(call, Err(stale()));
            return None;
        }
        let mut slot_use = SlotUse {
            call,
            ticket: Ticket::next(),
            op: None,
            pid: None,
            ending: None,
            handed_over: false,
            input_bytes: None,
            worker: None,
            command: None,
            connects: matches!(op, Op::Connect { .. }),
        };
        match &mut op {
            Op::Exec(exec) => {
                slot_use.command = Some(CommandUse {
                    terminal: exec.tty,
                    collect: exec.collect.map(|limit| limit as usize),
                });
                if let Stdin::Bytes(bytes) = &mut exec.stdin {
                    let bytes = std::mem::take(bytes).into_vec();
                    exec.stdin = if bytes.is_empty() && !exec.tty {
                        Stdin::Null
                    } else {
                        Stdin::Channel
                    };
                    slot_use.input_bytes = Some(bytes);
                } else if exec.stdin == Stdin::Null && exec.tty {
                    slot_use.input_bytes = Some(Vec::new());
                }
                if !exec.env_clear {
                    let given = std::mem::take(&mut exec.env);
                    let named =
                        |name: &[u8]| [b"HOME".as_slice(), b"USER", b"LOGNAME"].contains(&name);
                    exec.env = self
                        .env
                        .iter()
                        // Those of another user are that user's.
                        .filter(|(name, _)| exec.user.is_none() || !named(name))
                        .map(|(name, value)| (name.clone().into(), value.clone().into()))
                        .collect();
                    exec.env.extend(given);
                }
            }
            Op::WriteFile { content, .. } => match content.take() {
                Some(bytes) if bytes.len() > PAYLOAD / 2 => {
                    slot_use.input_bytes = Some(bytes.into_vec());
                }
                Some(bytes) => *content = Some(bytes),
                None => *content = slot_use.call.whole_input(PAYLOAD / 2).map(Into::into),
            },
            _ => {}
        }
        let payload = codec::encode(&op);
        if payload.len() > ARGUMENTS {
            let error = failure::os("exec", Errno(libc::E2BIG));
            state.finish(slot_use.call, Err(error));
            return None;
        }
        let Some(index) = self.new_slot(state) else {
            let error = failure::os("start a process", Errno::AGAIN);
            state.finish(slot_use.call, Err(error));
            return None;
        };
        slot_use.op = Some(op);
        self.area.slot(index).expect(slot_use.ticket);
        state.slots.insert(index, slot_use);
        Some((index, payload))
    }

    pub(super) fn fork_operation(&self, shared: &Shared, state: &mut State, job: Job) {
        let Some((slot, payload)) = self.prepare(state, job) else {
            return;
        };
        shared.begin_fork();
        self.post_fork(state, slot, payload);
    }

    /// Forks an operation process off the executor, which joins the raw process.
    pub(super) fn fork_beside(self: &Arc<Self>, shared: &Arc<Shared>, state: &mut State, job: Job) {
        let Some(raw_process) = Self::raw_pid(state) else {
            return;
        };
        let Some((slot, payload)) = self.prepare(state, job) else {
            return;
        };
        shared.begin_fork();
        let ticket = state.ticket_of(slot);
        match process::fork(0) {
            Ok(Forked::Child) => {
                raw_process::run_beside(raw_process, self.area, slot, ticket, &payload)
            }
            Ok(Forked::Parent(pid)) => self.adopt(shared, state, slot, pid),
            Err(errno) => self.fail_slot(state, slot, failure::os("start a process", errno)),
        }
        shared.end_fork();
    }

    fn adopt(self: &Arc<Self>, shared: &Shared, state: &mut State, slot: usize, pid: i32) {
        if let Some(used) = state.slots.get_mut(&slot) {
            used.pid = Some(pid);
            used.op = None;
            used.ending = shared.adopt(pid, Child::Operation(Arc::clone(self), slot));
            if used.call.is_cancelled() && !used.handed_over {
                kill_tree(pid);
            }
        }
    }

    /// The raw process has forked an operation process or a worker, or could not.
    pub(super) fn forked(
        self: &Arc<Self>,
        shared: &Shared,
        state: &mut State,
        slot: usize,
        result: i64,
    ) {
        match address(result) {
            Ok(pid) if !Self::is_foreign(state) => {
                self.adopt(shared, state, slot, i32::try_from(pid).unwrap_or(0));
            }
            // Its number here is found when it is needed.
            Ok(_) => {
                if let Some(used) = state.slots.get_mut(&slot) {
                    used.op = None;
                }
            }
            Err(errno) => {
                let what = match state.slots.get(&slot) {
                    Some(used) if used.worker.is_some() => "fork a worker",
                    _ => "start a process",
                };
                self.fail_slot(state, slot, failure::os(what, errno));
            }
        }
    }

    pub(super) fn fail_slot(&self, state: &mut State, slot: usize, error: WireError) {
        if let Some(used) = state.slots.remove(&slot) {
            if let Some(worker) = used.worker {
                workers::give_back(worker.area.index);
            }
            self.area.slot(slot).tell(SlotState::Aborted);
            state.finish(used.call, Err(error));
        }
    }

    /// Handles the events of operation processes.
    pub(super) fn look_at_slots(self: &Arc<Self>, shared: &Arc<Shared>, state: &mut State) {
        let waiting: Vec<usize> = state
            .slots
            .iter()
            .filter(|(_, used)| !used.handed_over)
            .map(|(index, _)| *index)
            .collect();
        for index in waiting {
            let slot = self.area.slot(index);
            match slot.get() {
                SlotState::Offered => self.offered(shared, state, index),
                SlotState::Done => self.done(shared, state, index),
                _ => {
                    let Some(used) = state.slots.get(&index) else {
                        continue;
                    };
                    // It may have been done in between.
                    if let Some(ending) = used.ending
                        && slot.get() != SlotState::Done
                        && (slot.get() == SlotState::Aborted || !used.is_succeeded(ending))
                    {
                        let error = failure::invalid(format!("its process {ending}"));
                        self.fail_slot(state, index, error);
                    }
                }
            }
        }
    }

    /// The process id of a slot's process, of which only the name may be known.
    fn process_of(
        self: &Arc<Self>,
        shared: &Shared,
        state: &mut State,
        index: usize,
    ) -> Option<i32> {
        let used = state.slots.get(&index)?;
        if used.pid.is_none() && Self::is_foreign(state) && used.worker.is_none() {
            let name = raw_process::operation_name(self.area.index, index);
            if let Some(pid) = tree::find_named(&name) {
                self.adopt(shared, state, index, pid);
            }
        }
        state.slots.get(&index)?.pid
    }

    fn done(self: &Arc<Self>, shared: &Arc<Shared>, state: &mut State, index: usize) {
        let slot = self.area.slot(index);
        if state
            .slots
            .get(&index)
            .is_some_and(|used| used.worker.is_some())
        {
            return self.worker_reported(shared, state, index);
        }
        let outcome = slot.outcome();
        let is_there = matches!(outcome.message, Message::There { .. });
        let pid = if is_there {
            self.process_of(shared, state, index)
        } else {
            Some(0)
        };
        // Its number is about to be known.
        let Some(pid) = pid else { return };
        let message = message_of(outcome.message, pid);
        let is_posted = state.posted.as_ref().and_then(Posted::slot) == Some(index);
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
        state
            .actions
            .push(Action::FinishEncoded(call, outcome.data, message));
    }

    /// Takes the ends of a process's pipes; the process waits for that.
    fn offered(self: &Arc<Self>, shared: &Arc<Shared>, state: &mut State, index: usize) {
        if state
            .slots
            .get(&index)
            .is_some_and(|used| used.worker.is_some())
        {
            return self.map_ids(state, index);
        }
        let Some(pid) = self.process_of(shared, state, index) else {
            return;
        };
        let Some(used) = state.slots.get_mut(&index) else {
            return;
        };
        let slot = self.area.slot(index);
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
                return self.fail_slot(state, index, error);
            }
        };
        let [input, output, error, exec] = ends;
        let kind = match used.command {
            Some(command) => Kind::Command {
                terminal: command.terminal,
            },
            None if used.connects => Kind::Connection,
            None => Kind::Transfer,
        };
        let inline = kind == Kind::Transfer && output.is_some() && !call.sends_output;
        let collect = match used.command {
            Some(command) => command.collect,
            None => inline.then(command::inline_limit),
        };
        let mut outputs = Vec::new();
        outputs.extend(output.map(|fd| (Channel::Output, fd)));
        outputs.extend(error.map(|fd| (Channel::Error, fd)));
        used.handed_over = true;
        let is_command = used.command.is_some();
        let started = Started {
            call: Arc::clone(&call),
            pid,
            slot: index,
            kind,
            outputs,
            input,
            input_bytes: used.input_bytes.take(),
            exec,
            collect,
        };
        // Before the process continues: the main thread must be prepared for its end.
        shared.hand_over(started);
        if is_command {
            // Signals that came early may end it here.
            call.process_started(pid);
        }
        slot.tell(SlotState::Taken);
    }

    // Stopping.

    /// Aborts the operation in a slot. Kills its process even if the raw process has not reported it.
    pub(super) fn abort_slot(&self, state: &State, index: usize) {
        let slot = self.area.slot(index);
        slot.tell(SlotState::Aborted);
        let known = state.process_in(index);
        // A test can write there, too.
        let begun = || slot.process().filter(|pid| process::is_child(*pid));
        if let Some(pid) = known.or_else(begun) {
            kill_tree(pid);
        }
    }

    /// Stops a started operation; returns whether its call has to be answered now.
    pub(super) fn stop_operation(
        &self,
        _shared: &Shared,
        state: &mut State,
        call: &Arc<Call>,
    ) -> bool {
        let found = state
            .slots
            .iter()
            .find(|(_, used)| Arc::ptr_eq(&used.call, call));
        let Some((index, used)) = found else {
            return false;
        };
        let is_command = used.command.is_some();
        if used.handed_over {
            // A connection ends by itself, once its pipes are closed.
            if let Some(pid) = used.pid.filter(|_| !used.connects) {
                kill_tree(pid);
            }
            // A command is given a moment to end, so that its output comes first.
            return !is_command;
        }
        let index = *index;
        self.abort_slot(state, index);
        let is_posted = state.posted.as_ref().and_then(Posted::slot) == Some(index);
        if !is_posted
            && let Some(used) = state.slots.remove(&index)
            && let Some(worker) = used.worker
        {
            workers::give_back(worker.area.index);
        }
        true
    }
}

impl State {
    pub(super) fn add_worker(
        &mut self,
        slot: usize,
        ticket: Ticket,
        call: Arc<Call>,
        worker: NewWorker,
    ) {
        let used = SlotUse {
            call,
            ticket,
            op: None,
            pid: None,
            ending: None,
            handed_over: false,
            input_bytes: None,
            worker: Some(worker),
            command: None,
            connects: false,
        };
        self.slots.insert(slot, used);
    }

    pub(super) fn ticket_of(&self, slot: usize) -> Ticket {
        self.slots
            .get(&slot)
            .map_or(Ticket::of(0), |used| used.ticket)
    }

    pub(super) fn remove_worker(&mut self, slot: usize) -> Option<(Arc<Call>, NewWorker)> {
        let used = self.slots.remove(&slot)?;
        Some((used.call, used.worker?))
    }

    /// The process id of a slot's process, if it is known.
    pub(super) fn process_in(&self, slot: usize) -> Option<i32> {
        self.slots.get(&slot)?.pid
    }
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

/// The error for a descriptor whose raw process has ended.
pub(super) fn stale() -> WireError {
    WireError {
        kind: ErrorKind::StaleDescriptor,
        errno: 0,
        message: "the process that had it has ended".to_owned(),
    }
}
