//! Calls to lane 0: workers, batches, figures, switching off.

use super::batch::Batch;
use super::lanes::{Executor, LaneState, Leaving, OpenCall, Owner};
use super::serve::Router;
use crate::failure::{self, OpResult};
use crate::init::power;
use crate::ops::{renewal, stats};
use crate::sys::boot::Stop;
use crate::sys::packet;
use provium_protocol::op::WorkerSpec;
use provium_protocol::{CallId, Frame, FrameKind, Lane, Op, Reply, codec};
use std::os::fd::OwnedFd;
use std::time::Instant;

/// A call to lane 0 that is under way.
#[derive(Debug)]
pub(super) enum Task {
    /// Waits for the raw lane to fork.
    Fork {
        inner: CallId,
        lane: Lane,
        socket: OwnedFd,
        cancelled: bool,
    },
    /// Waits for the worker to report.
    Start {
        lane: Lane,
        pid: u32,
    },
    /// Waits for a worker to end.
    Retire,
    Batch(Batch),
}

impl Router {
    pub(super) fn begin_task(&mut self, call: CallId, message: &[u8]) {
        let Ok(op) = codec::decode::<Op>(message) else {
            let error = failure::invalid("the request cannot be read");
            return self.reply(Lane::AGENT, call, &Err(error));
        };
        if self.tasks.contains_key(&call) {
            return;
        }
        match op {
            Op::SpawnWorker(spec) => self.spawn_worker(call, spec),
            Op::RetireWorker { lane } => self.retire_worker(call, lane),
            Op::Batch { commands, raw, ops } => {
                self.tasks
                    .insert(call, Task::Batch(Batch::new(commands, raw, ops)));
                self.step_batch(call);
            }
            Op::PowerOff => {
                self.reply(Lane::AGENT, call, &Ok(Reply::Done));
                self.out.flush(&self.transport);
                power::stop(Stop::PowerOff);
            }
            Op::Stats => self.reply(Lane::AGENT, call, &stats::collect()),
            Op::Quiesce => self.begin_quiet(call),
            Op::Renew(wishes) => {
                let result = renewal::renew(&wishes, self.duties.is_init);
                self.reply(Lane::AGENT, call, &result);
            }
            _ => {
                let error = failure::invalid("not an op of the agent's own lane");
                self.reply(Lane::AGENT, call, &Err(error));
            }
        }
    }

    /// Sends an op to a lane on behalf of a task; gives the id of the inner call, or why not.
    pub(super) fn send_inner(
        &mut self,
        task: CallId,
        lane: Lane,
        op: &Op,
        passed: Option<(Lane, OwnedFd)>,
    ) -> Result<CallId, provium_protocol::WireError> {
        let executor = match self.lanes.get_mut(&lane) {
            None => return Err(failure::no_such_lane(lane)),
            Some(LaneState::Dead(how)) => return Err(failure::lane_died(how)),
            Some(LaneState::Alive(executor)) => executor,
        };
        let id = CallId(CallId::FIRST_INTERNAL.0 | self.next_inner);
        self.next_inner = (self.next_inner + 1) & !CallId::FIRST_INTERNAL.0;
        executor.calls.insert(
            id,
            OpenCall {
                owner: Owner::Task(task),
                cancelled: None,
                process: None,
            },
        );
        self.inner.insert(id, task);
        // The header of a worker's request names the lane that the worker will serve.
        let (named, mut passed) = match passed {
            Some((lane, socket)) => (lane, Some(socket)),
            None => (lane, None),
        };
        for frame in Frame::split(FrameKind::Request, named, id, &codec::encode(op)) {
            let with_last = if frame.more { None } else { passed.take() };
            executor.send(&frame, with_last);
        }
        Ok(id)
    }

    fn cancel_inner(&mut self, lane: Lane, id: CallId) {
        if let Some(executor) = self.lanes.get_mut(&lane).and_then(LaneState::alive_mut)
            && let Some(call) = executor.calls.get_mut(&id)
        {
            call.cancelled.get_or_insert_with(Instant::now);
            executor.send(&Frame::new(FrameKind::Cancel, lane, id, Vec::new()), None);
        }
    }

    /// A lane answered (a part of) an inner call.
    pub(super) fn inner_reply(&mut self, task: CallId, id: CallId, more: bool, payload: Vec<u8>) {
        let mut part = Frame::new(FrameKind::Reply, Lane::AGENT, id, payload);
        part.more = more;
        let message = match self.inner_replies.entry(id).or_default().push(&part) {
            Ok(None) => return,
            Ok(Some(message)) => message,
            Err(_) => Vec::new(),
        };
        self.inner_replies.remove(&id);
        self.inner.remove(&id);
        let size = message.len();
        let result = codec::decode::<OpResult>(&message)
            .unwrap_or_else(|_| Err(failure::invalid("the lane's reply cannot be read")));
        match self.tasks.get_mut(&task) {
            Some(Task::Batch(batch)) => {
                batch.answered(id, result, size);
                self.step_batch(task);
            }
            Some(Task::Fork { .. }) => self.forked(task, result),
            _ => {}
        }
    }

    pub(super) fn finish_task(&mut self, call: CallId, result: OpResult) {
        if self.tasks.remove(&call).is_some() {
            self.reply(Lane::AGENT, call, &result);
        }
    }

    /// Whether a process may appear that the router does not know of yet.
    pub(super) fn forks_workers(&self) -> bool {
        self.tasks
            .values()
            .any(|task| matches!(task, Task::Fork { .. }))
    }

    pub(super) fn cancel_task(&mut self, call: CallId) {
        if self.cancel_quiet(call) {
            return;
        }
        let (lane, ids) = match self.tasks.get_mut(&call) {
            Some(Task::Fork {
                inner, cancelled, ..
            }) => {
                *cancelled = true;
                (Lane::RAW, vec![*inner])
            }
            Some(Task::Batch(batch)) => {
                let open = batch.cancel();
                if open.1.is_empty() {
                    return self.finish_task(call, Err(failure::cancelled()));
                }
                open
            }
            Some(Task::Start { lane, .. }) => {
                let lane = *lane;
                self.discard(lane);
                return self.finish_task(call, Err(failure::cancelled()));
            }
            // Ends within the grace in any case.
            Some(Task::Retire) | None => return,
        };
        for id in ids {
            self.cancel_inner(lane, id);
        }
    }

    fn step_batch(&mut self, call: CallId) {
        loop {
            let Some(Task::Batch(batch)) = self.tasks.get_mut(&call) else {
                return;
            };
            if batch.is_done() {
                let result = batch.take_result();
                return self.finish_task(call, result);
            }
            let Some((lane, op)) = batch.next() else {
                return;
            };
            let sent = self.send_inner(call, lane, &op, None);
            if let Some(Task::Batch(batch)) = self.tasks.get_mut(&call) {
                batch.sent(lane, op, sent);
            }
        }
    }

    fn spawn_worker(&mut self, call: CallId, spec: WorkerSpec) {
        let (ours, theirs) = match packet::pair() {
            Ok(pair) => pair,
            Err(errno) => {
                let error = failure::os("make a socket", errno);
                return self.reply(Lane::AGENT, call, &Err(error));
            }
        };
        let lane = Lane(self.next_worker);
        self.next_worker += 1;
        match self.send_inner(
            call,
            Lane::RAW,
            &Op::SpawnWorker(spec),
            Some((lane, theirs)),
        ) {
            Ok(inner) => {
                let task = Task::Fork {
                    inner,
                    lane,
                    socket: ours,
                    cancelled: false,
                };
                self.tasks.insert(call, task);
            }
            Err(error) => self.reply(Lane::AGENT, call, &Err(error)),
        }
    }

    /// The raw lane forked a worker, or could not.
    fn forked(&mut self, call: CallId, result: OpResult) {
        let Some(Task::Fork {
            lane,
            socket,
            cancelled,
            ..
        }) = self.tasks.remove(&call)
        else {
            return;
        };
        let pid = match result {
            Ok(Reply::Worker { pid, .. }) => pid,
            Ok(_) => 0,
            Err(error) => return self.reply(Lane::AGENT, call, &Err(error)),
        };
        let mut executor = Executor::new(i32::try_from(pid).unwrap_or(0), socket);
        if cancelled {
            self.reply(Lane::AGENT, call, &Err(failure::cancelled()));
        } else {
            executor.starting = Some(call);
            self.tasks.insert(call, Task::Start { lane, pid });
        }
        self.lanes.insert(lane, LaneState::Alive(executor));
        if cancelled {
            self.discard(lane);
        }
        self.catch_up_with_early_end(lane);
    }

    /// A worker's first packet: it is ready, or why it could not become what it should.
    pub(super) fn worker_reports(&mut self, lane: Lane, message: &[u8]) {
        let Some(LaneState::Alive(executor)) = self.lanes.get_mut(&lane) else {
            return;
        };
        let Some(call) = executor.starting.take() else {
            return;
        };
        let Some(Task::Start { pid, .. }) = self.tasks.get(&call) else {
            return;
        };
        let pid = *pid;
        match codec::decode::<OpResult>(message) {
            Ok(Ok(_)) => self.finish_task(call, Ok(Reply::Worker { lane, pid })),
            Ok(Err(error)) => {
                self.discard(lane);
                self.finish_task(call, Err(error));
            }
            Err(_) => self.discard(lane),
        }
    }

    /// Ends a worker that nobody waits for.
    fn discard(&mut self, lane: Lane) {
        if let Some(executor) = self.lanes.get_mut(&lane).and_then(LaneState::alive_mut) {
            executor.starting = None;
            executor.dismiss(Leaving::Retired(None));
        }
    }

    fn retire_worker(&mut self, call: CallId, lane: Lane) {
        if lane < Lane::FIRST_WORKER {
            let error = failure::invalid(format!("lane `{lane}` is no worker's"));
            return self.reply(Lane::AGENT, call, &Err(error));
        }
        match self.lanes.get_mut(&lane) {
            Some(LaneState::Alive(executor)) if executor.leaving.is_none() => {
                executor.dismiss(Leaving::Retired(Some(call)));
                self.tasks.insert(call, Task::Retire);
            }
            Some(LaneState::Alive(_)) => self.reply(Lane::AGENT, call, &Ok(Reply::Done)),
            _ => {
                self.lanes.remove(&lane);
                self.reply(Lane::AGENT, call, &Ok(Reply::Done));
            }
        }
    }
}
