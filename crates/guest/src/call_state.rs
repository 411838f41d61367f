//! State of one call, shared by its [`Call`](crate::Call) handle and the [reader](crate::reader).
//!
//! A call is *open* until its outcome is set, by the reply or by the end of the session. It is
//! *abandoned* when its handle is dropped before that. An abandoned call stays in the channel's table,
//! so that its id is not used again until the reply has come.

use crate::capture::Capture;
use crate::checkpoint::CallCheckpoint;
use crate::error::{CallError, Violation};
use crate::incoming::{CreditViolation, IncomingStream, Sink};
use crate::kind::CallKind;
use crate::outgoing::OutgoingRequest;
use crate::reply_limits::ReplyLimits;
use provium_protocol::frame::INITIAL_WINDOW;
use provium_protocol::message::Exit;
use provium_protocol::{CallId, Event, FrameKind, Lane, Op, Reply, StreamId};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::Instant;

/// Events a call may have; honest ones have one or two.
const EVENT_LIMIT: usize = 16;

/// State of one call. Many methods because the reader, the call's handles and a checkpoint each see another side of
/// what is under one lock.
#[derive(Debug)]
pub(crate) struct CallState {
    pub(crate) id: CallId,
    pub(crate) lane: Lane,
    pub(crate) limits: ReplyLimits,
    /// When the call was made, or restored from a checkpoint.
    pub(crate) opened: Instant,
    /// Held through a whole write, so that two writers' bytes do not mix.
    pub(crate) input_turn: AsyncMutex<()>,
    /// Wakes the writer: there may be room.
    pub(crate) input_ready: Notify,
    /// Wakes all that wait for an event or the outcome.
    progress: Notify,
    output_ready: [Notify; 2],
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    kind: CallKind,
    incoming: [IncomingStream; 2],
    /// The guest has ended the stream, before it ended the call.
    ended_in_order: [bool; 2],
    /// Bytes that may still be sent on the input stream.
    credit: u64,
    input_finished: bool,
    events: Vec<Event>,
    outcome: Option<Result<Reply, CallError>>,
    /// The outcome was set; it may have been taken since.
    over: bool,
    /// Why the session ended under the call.
    failure: Option<CallError>,
    abandoned: bool,
}

/// What is left to do for an abandoned call.
pub(crate) enum AbandonAction {
    /// Cancel it: it is open.
    Cancel,
    /// Undo it: its reply gave something that was not taken.
    Undo(Lane, Op),
    /// Nothing.
    Nothing,
}

fn slot(stream: StreamId) -> Option<usize> {
    match stream {
        StreamId::Input => None,
        StreamId::Output => Some(0),
        StreamId::Error => Some(1),
    }
}

impl CallState {
    /// The call of a request.
    pub(crate) fn new(id: CallId, request: &OutgoingRequest, sinks: [Sink; 2]) -> Self {
        let OutgoingRequest {
            lane, limits, kind, ..
        } = *request;
        Self {
            id,
            lane,
            limits,
            opened: Instant::now(),
            input_turn: AsyncMutex::new(()),
            input_ready: Notify::new(),
            progress: Notify::new(),
            output_ready: [Notify::new(), Notify::new()],
            state: Mutex::new(State {
                kind,
                incoming: sinks.map(IncomingStream::new),
                ended_in_order: [false; 2],
                credit: u64::from(INITIAL_WINDOW),
                input_finished: !limits.input,
                events: Vec::new(),
                outcome: None,
                over: false,
                failure: None,
                abandoned: false,
            }),
        }
    }

    /// The call of a request that was not sent: it is over, with this outcome.
    pub(crate) fn refused(request: &OutgoingRequest, sinks: [Sink; 2], refusal: CallError) -> Self {
        let call = Self::new(CallId(0), request, sinks);
        call.finish(Err(refusal));
        call
    }

    /// A call that was open at a checkpoint. It is abandoned until it is reattached.
    pub(crate) fn resumed(checkpoint: &CallCheckpoint) -> Self {
        let request =
            OutgoingRequest::sent_before(checkpoint.lane, CallKind::Unknown, checkpoint.limits);
        let sinks = [Sink::Discard, Sink::Discard];
        let state = Self::new(checkpoint.id, &request, sinks);
        let mut inner = state.lock();
        inner.incoming = checkpoint.outputs.map(IncomingStream::resumed);
        inner.credit = checkpoint.credit;
        inner.input_finished = checkpoint.input_finished;
        inner.abandoned = true;
        drop(inner);
        state
    }

    /// The call for a checkpoint; `unsent` and `input`: credit of its outputs, and bytes of its input,
    /// that have not been sent.
    pub(crate) fn checkpoint(&self, unsent: [u32; 2], input: usize) -> CallCheckpoint {
        let state = self.lock();
        let [output, error] = &state.incoming;
        CallCheckpoint {
            id: self.id,
            lane: self.lane,
            limits: self.limits,
            credit: state.credit + input as u64,
            input_finished: state.input_finished,
            outputs: [output.checkpoint(unsent[0]), error.checkpoint(unsent[1])],
        }
    }

    /// Grants all pending credit; returns the credit of each output.
    pub(crate) fn grant_all(&self) -> [u32; 2] {
        let mut state = self.lock();
        [0, 1].map(|slot| state.incoming[slot].grant_all())
    }

    /// Makes it the call of a command that was started as `pid`, with these outputs.
    pub(crate) fn reattach(&self, pid: Option<u32>, outputs: [Arc<Capture>; 2]) {
        let mut state = self.lock();
        state.abandoned = false;
        // Only commands of `run_async` have checkpoints.
        state.kind = CallKind::Command { background: true };
        state.events.extend(pid.map(|pid| Event::Started { pid }));
        for (incoming, capture) in state.incoming.iter_mut().zip(outputs) {
            incoming.capture(capture);
        }
    }

    /// Its process id, if the guest has sent it.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.lock().events.iter().find_map(|event| match event {
            Event::Started { pid } => Some(*pid),
            Event::Entered { .. } | Event::Waiting | Event::Connected => None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What the reader brings.

    /// Data has come; returns the credit to grant.
    pub(crate) fn accept(&self, stream: StreamId, bytes: Vec<u8>) -> Result<u32, Violation> {
        let slot = slot(stream).ok_or(Violation::WrongStream(self.id))?;
        let grant = self.lock().incoming[slot]
            .accept(bytes)
            .map_err(|refused| match refused {
                CreditViolation::OverWindow => Violation::OverWindow(self.id),
                CreditViolation::AfterEnd => Violation::WrongStream(self.id),
            })?;
        self.output_ready[slot].notify_one();
        Ok(grant)
    }

    pub(crate) fn end(&self, stream: StreamId) -> Result<(), Violation> {
        let slot = slot(stream).ok_or(Violation::WrongStream(self.id))?;
        let mut state = self.lock();
        state.incoming[slot].end(None);
        state.ended_in_order[slot] = true;
        drop(state);
        self.output_ready[slot].notify_one();
        Ok(())
    }

    pub(crate) fn credit(&self, bytes: u32) {
        let mut state = self.lock();
        state.credit = state.credit.saturating_add(u64::from(bytes));
        drop(state);
        self.input_ready.notify_one();
    }

    pub(crate) fn event(&self, event: Event) -> Result<(), Violation> {
        let mut state = self.lock();
        if state.events.len() == EVENT_LIMIT {
            return Err(Violation::Flood(FrameKind::Event));
        }
        state.events.push(event);
        drop(state);
        self.progress.notify_waiters();
        Ok(())
    }

    /// Sets the outcome. If the call is abandoned, returns what must be undone.
    pub(crate) fn finish(&self, outcome: Result<Reply, CallError>) -> Option<(Lane, Op)> {
        let mut state = self.lock();
        if state.over {
            return None;
        }
        state.over = true;
        if let Err(error @ CallError::Channel(_)) = &outcome {
            state.failure = Some(error.clone());
        }
        let failure = state.failure.clone();
        for incoming in &mut state.incoming {
            incoming.end(failure.as_ref());
        }
        let undo = match &outcome {
            Ok(reply) if state.abandoned => undo(self.lane, reply),
            _ => None,
        };
        state.outcome = Some(outcome);
        drop(state);
        self.progress.notify_waiters();
        self.input_ready.notify_one();
        for ready in &self.output_ready {
            ready.notify_one();
        }
        undo
    }

    // What the maker of the call does.

    /// Marks it as abandoned.
    pub(crate) fn abandon(&self) -> AbandonAction {
        let mut state = self.lock();
        state.abandoned = true;
        self.input_ready.notify_one();
        if !state.over {
            return AbandonAction::Cancel;
        }
        match state.outcome.take() {
            Some(Ok(reply)) => match undo(self.lane, &reply) {
                Some((lane, op)) => AbandonAction::Undo(lane, op),
                None => AbandonAction::Nothing,
            },
            _ => AbandonAction::Nothing,
        }
    }

    /// Discards what is held and what comes; returns the credit to grant on each stream. With `all`
    /// false, streams with a reader are not changed.
    pub(crate) fn discard(&self, all: bool) -> [u32; 2] {
        let mut state = self.lock();
        [0, 1].map(|slot| {
            let incoming = &mut state.incoming[slot];
            if all {
                incoming.discard()
            } else {
                incoming.discard_unclaimed()
            }
        })
    }

    /// Discards one stream; returns the credit to grant.
    pub(crate) fn discard_one(&self, stream: StreamId) -> u32 {
        slot(stream).map_or(0, |slot| self.lock().incoming[slot].discard())
    }

    pub(crate) fn claim(&self, stream: StreamId) {
        if let Some(slot) = slot(stream) {
            self.lock().incoming[slot].claim();
        }
    }

    /// The next piece of a stream and the credit to grant for it; `None` at the end.
    pub(crate) async fn next_piece(
        &self,
        stream: StreamId,
    ) -> Result<Option<(Vec<u8>, u32)>, CallError> {
        let Some(slot) = slot(stream) else {
            return Ok(None);
        };
        loop {
            {
                let mut state = self.lock();
                let piece = state.incoming[slot].take();
                if piece.is_some() || state.incoming[slot].ended() {
                    let more = !state.incoming[slot].is_empty() || state.incoming[slot].ended();
                    let failure = state.failure.clone();
                    drop(state);
                    if more {
                        // For a second reader of the same stream.
                        self.output_ready[slot].notify_one();
                    }
                    return match (piece, failure) {
                        (Some(piece), _) => Ok(Some(piece)),
                        (None, Some(failure)) => Err(failure),
                        (None, None) => Ok(None),
                    };
                }
            }
            self.output_ready[slot].notified().await;
        }
    }

    /// Takes as much credit as there is, at most `wanted`; 0: wait.
    pub(crate) fn spend(&self, wanted: usize) -> Result<usize, CallError> {
        let mut state = self.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if state.over || state.abandoned || state.input_finished {
            return Err(CallError::InputClosed);
        }
        let given = usize::try_from(state.credit).map_or(wanted, |credit| credit.min(wanted));
        state.credit -= given as u64;
        Ok(given)
    }

    /// Ends the input; false when it had ended, or the call has. A writer that waits for room is woken
    /// and finds the input closed.
    pub(crate) fn finish_input(&self) -> bool {
        let mut state = self.lock();
        let first = !state.over && !std::mem::replace(&mut state.input_finished, true);
        drop(state);
        if first {
            self.input_ready.notify_one();
        }
        first
    }

    /// What the call does.
    pub(crate) fn kind(&self) -> CallKind {
        self.lock().kind
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().over
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }

    /// Whether the guest has ended the stream by itself, and not with the call.
    pub(crate) fn ended_in_order(&self, stream: StreamId) -> bool {
        slot(stream).is_some_and(|slot| self.lock().ended_in_order[slot])
    }

    /// The error that it has ended with, if it has; can be asked any number of times.
    pub(crate) fn failure(&self) -> Option<CallError> {
        match &self.lock().outcome {
            Some(Err(error)) => Some(error.clone()),
            _ => None,
        }
    }

    /// The outcome, once it is there; it is handed out once.
    pub(crate) async fn take_outcome(&self) -> Result<Reply, CallError> {
        self.until(|state| {
            state
                .over
                .then(|| state.outcome.take().unwrap_or(Err(CallError::Taken)))
        })
        .await
    }

    /// How the command ended. May be awaited any number of times.
    pub(crate) async fn exit(&self) -> Result<Exit, CallError> {
        self.until(|state| match (&state.outcome, state.over) {
            (Some(Ok(Reply::Exited(exit))), _) => Some(Ok(*exit)),
            (Some(Ok(_)), _) => Some(Err(CallError::Unexpected("exec"))),
            (Some(Err(error)), _) => Some(Err(error.clone())),
            (None, true) => Some(Err(CallError::Taken)),
            (None, false) => None,
        })
        .await
    }

    /// The event of that index; `None` when the call ended with fewer.
    pub(crate) async fn nth_event(&self, index: usize) -> Option<Event> {
        self.until(|state| match state.events.get(index) {
            Some(event) => Some(Some(event.clone())),
            None => state.over.then_some(None),
        })
        .await
    }

    /// The process id of the command, once it runs; `None` when the call ended without.
    pub(crate) async fn started(&self) -> Option<u32> {
        self.until(|state| {
            let started = state.events.iter().find_map(|event| match event {
                Event::Started { pid } => Some(*pid),
                Event::Entered { .. } | Event::Waiting | Event::Connected => None,
            });
            (started.is_some() || state.over).then_some(started)
        })
        .await
    }

    async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.progress.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            changed.await;
        }
    }
}

/// What undoes the effect of a reply that is not awaited any more.
fn undo(lane: Lane, reply: &Reply) -> Option<(Lane, Op)> {
    match reply {
        Reply::Worker { lane: worker, .. } => Some((Lane::VM, Op::RetireWorker { lane: *worker })),
        Reply::Opened(fd) => Some((lane, Op::CloseFd { fd: *fd })),
        _ => None,
    }
}
