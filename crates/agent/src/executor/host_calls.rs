//! Requests of the host: from frames to calls, and from calls to the owners of lanes. Belongs to the main
//! thread.

use super::batch::Batch;
use super::call::{Call, Recipient};
use super::cancellations::{Cancellations, INTERRUPT_INTERVAL};
use super::command::Command;
use super::immediate;
use super::owner::{Owner, QueuedOp};
use super::owners::Owners;
use super::requests::{CompletedRequest, Requests};
use super::router_link;
use super::shared::Shared;
use super::table::Table;
use super::timers::Timers;
use crate::failure::{self, OpResult};
use crate::ops::clock;
use provium_protocol::frame::INITIAL_WINDOW;
use provium_protocol::{CallId, Frame, FrameKind, Lane, Op, Reply, WireError, codec};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct HostCalls {
    shared: Arc<Shared>,
    pub(super) owners: Owners,
    requests: Requests,
    /// Calls that are passed to their owner when their input is complete, or fills the window.
    gathering: Table<(Lane, CallId), Op>,
    cancellations: Cancellations,
    timers: Timers,
    batches: Vec<(Arc<Call>, Arc<Batch>)>,
}

impl HostCalls {
    pub(super) fn new(shared: Arc<Shared>, owners: Owners) -> Self {
        Self {
            shared,
            owners,
            requests: Requests::default(),
            gathering: Table::default(),
            cancellations: Cancellations::default(),
            timers: Timers::default(),
            batches: Vec::new(),
        }
    }

    /// When to [check the times](Self::check_times).
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.cancellations.is_empty() {
            self.timers.next()
        } else {
            Some(now + INTERRUPT_INTERVAL)
        }
    }

    pub(super) fn check_times(&mut self) {
        if !self.cancellations.is_empty() || self.timers.next().is_some() {
            let now = Instant::now();
            self.cancellations.interrupt(&self.shared, now);
            self.timers.expire(&self.shared, now);
        }
    }

    /// Handles a frame that is not the end of the session. `commands` are those that run.
    pub(super) fn handle(&mut self, frame: Frame, commands: &[Command]) {
        let (lane, id) = (frame.lane, frame.call);
        if frame.kind == FrameKind::Request {
            return self.request(&frame, commands);
        }
        if frame.kind == FrameKind::Cancel {
            self.requests.cancel(lane, id);
        }
        let Some(call) = self.shared.calls.get(lane, id) else {
            return;
        };
        match frame.kind {
            FrameKind::Data => {
                let buffered = call.push_input(frame.payload);
                if buffered >= INITIAL_WINDOW as usize / 2 {
                    self.submit_gathered(&call);
                }
            }
            FrameKind::End => {
                call.end_input();
                self.submit_gathered(&call);
            }
            FrameKind::Credit => {
                if let Some(bytes) = frame.granted() {
                    call.grant(frame.stream, bytes);
                }
            }
            FrameKind::Cancel => self.cancel(call),
            _ => {}
        }
    }

    fn request(&mut self, frame: &Frame, commands: &[Command]) {
        let Some(completed) = self.requests.push(frame) else {
            return;
        };
        let owner = match (&completed, self.owners.get(frame.lane)) {
            (CompletedRequest::TooLong(error), _) => return refuse(frame, error.clone()),
            (_, None) => return refuse(frame, failure::no_such_lane(frame.lane)),
            (_, Some(owner)) => Arc::clone(owner),
        };
        let op = match &completed {
            CompletedRequest::Op(op) => Some(op),
            _ => None,
        };
        let call = Call::new(frame.call, frame.lane, Recipient::Host, op);
        let call = Arc::new(call);
        if !self.shared.calls.open(&call) {
            return;
        }
        match completed {
            CompletedRequest::Op(op) => self.begin(&owner, call, op, commands),
            CompletedRequest::Unreadable(error) | CompletedRequest::TooLong(error) => {
                self.shared.calls.finish(&call, Err(error));
            }
        }
    }

    /// Does at once what needs no process of the owner's; passes the rest to the owner.
    fn begin(&mut self, owner: &Arc<Owner>, call: Arc<Call>, op: Op, commands: &[Command]) {
        let shared = Arc::clone(&self.shared);
        // A worker that has ended can still be signalled and joined: there is nothing left of it.
        if let Some(error) = owner.refusal()
            && !matches!(op, Op::SignalAll { .. } | Op::Join)
        {
            return shared.calls.finish(&call, Err(error));
        }
        let result = match op {
            Op::Signal {
                call: of,
                signal,
                target,
            } => immediate::signal(&shared, owner, of, signal, target),
            Op::ResizeTerminal { call: of, window } => {
                immediate::resize_terminal(commands, owner.lane, of, window)
            }
            Op::SignalAll { signal, everything } => {
                immediate::signal_all(&shared, owner, signal, everything)
            }
            Op::ReadMemory { address, len } => immediate::read_memory(owner, address, len),
            Op::WriteMemory { address, data } => immediate::write_memory(owner, address, &data),
            Op::CheckFd { fd } => immediate::check_descriptor(owner, fd),
            Op::ClockGet => clock::get(),
            Op::ClockSet { ns } => clock::set(ns),
            Op::ClockAdvance { ns } => clock::advance(ns),
            Op::ClockSleep { ns } => match Instant::now().checked_add(Duration::from_nanos(ns)) {
                Some(until) => return self.timers.sleep(call, until),
                None => Err(failure::invalid("too long a sleep")),
            },
            Op::Join => return shared.calls.join(call),
            Op::WriteFile { content: None, .. } | Op::WriteFd { .. } => {
                return self.gathering.insert((call.lane, call.id), op);
            }
            Op::RetireWorker { lane } => return self.retire(call, lane),
            Op::Batch { ops } => {
                let batch = Batch::begin(&shared, owner, Arc::clone(&call), ops);
                self.batches.retain(|(call, _)| !call.is_answered());
                if !call.is_answered() {
                    self.batches.push((call, batch));
                }
                return;
            }
            // Operations of other classes: a process of the owner carries them out.
            op => return owner.push(&shared, QueuedOp { call, op }),
        };
        shared.calls.finish(&call, result);
    }

    /// Passes a call that gathered input to its owner.
    fn submit_gathered(&mut self, call: &Arc<Call>) {
        if let Some(op) = self.gathering.remove(&(call.lane, call.id))
            && let Some(owner) = self.owners.get(call.lane)
        {
            let call = Arc::clone(call);
            owner.push(&self.shared, QueuedOp { call, op });
        }
    }

    /// Ends a worker and everything that it owns.
    fn retire(&mut self, call: Arc<Call>, lane: Lane) {
        let calls = &self.shared.calls;
        if lane < Lane::FIRST_WORKER {
            let error = failure::invalid(format!("lane `{lane}` is not a worker"));
            return calls.finish(&call, Err(error));
        }
        let Some(owner) = self.owners.retire(&self.shared, lane) else {
            return calls.finish(&call, Ok(Reply::Done));
        };
        self.requests.forget_lane(lane);
        self.gathering.retain(|(of, _)| *of != lane);
        for open in calls.of_lane(lane) {
            calls.finish(&open, Err(failure::no_such_lane(lane)));
        }
        self.timers
            .limit_closing(Arc::clone(&call), Arc::clone(&owner));
        owner.close(&self.shared, call);
    }

    fn cancel(&mut self, call: Arc<Call>) {
        if call.is_cancelled() {
            return;
        }
        call.cancel();
        let batch = self.batches.iter().find(|(of, _)| Arc::ptr_eq(of, &call));
        if let Some((_, batch)) = batch {
            // The entry that runs is stopped; then the batch starts no further one.
            if let Some(entry) = batch.current() {
                self.cancel(entry);
            }
            return;
        }
        let Some(owner) = self.owners.get(call.lane).cloned() else {
            return;
        };
        let is_withdrawn = self.timers.withdraw(&call)
            || self.gathering.remove(&(call.lane, call.id)).is_some()
            || self.shared.calls.withdraw_join(&call)
            || owner.withdraw(&call);
        if is_withdrawn {
            return self.shared.calls.finish(&call, Err(failure::cancelled()));
        }
        self.cancellations.begin(&self.shared, call, owner);
    }
}

/// Answers a request that does not become a call.
fn refuse(frame: &Frame, error: WireError) {
    let result: OpResult = Err(error);
    let message = codec::encode(&result);
    router_link::send_message(FrameKind::Reply, frame.lane, frame.call, &message);
}
