//! The session, the calls and the outbox of a channel, and what changes more than one of them.
//!
//! Pure but for the wake-ups of calls; [`Shared`](crate::shared::Shared) holds it under one lock. Lock order:
//! this one, then a call's.

use crate::call_state::{AbandonAction, CallState};
use crate::calls::CallTable;
use crate::checkpoint::{CallCheckpoint, ChannelCheckpoint};
use crate::error::{CallError, ChannelError};
use crate::incoming::Sink;
use crate::outbox::{CHUNK, Outbox, Sender};
use crate::outgoing::OutgoingRequest;
use crate::session::{OpenSession, Session};
use provium_protocol::frame::MAX_MESSAGE;
use provium_protocol::op::Quiesce;
use provium_protocol::{
    AgentOp, CallId, ErrorKind, Frame, FrameKind, Hello, Lane, Op, Reply, Request, StreamId,
    WireError,
};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The state of a channel.
#[derive(Debug)]
pub(crate) struct ChannelState {
    pub(crate) session: Session,
    pub(crate) calls: CallTable,
    pub(crate) outbox: Outbox,
}

impl ChannelState {
    /// A channel without a session; `announced`: the agent has announced itself.
    pub(crate) fn new(announced: bool) -> Self {
        Self {
            session: Session::new(announced),
            calls: CallTable::default(),
            outbox: Outbox::default(),
        }
    }

    /// A channel in the session of a checkpoint, with its calls, which are abandoned.
    pub(crate) fn resumed(checkpoint: &ChannelCheckpoint) -> Self {
        let mut channel = Self {
            session: Session::resumed(checkpoint.session),
            calls: CallTable::after(checkpoint.last_id),
            outbox: Outbox::default(),
        };
        for call in &checkpoint.calls {
            let call = Arc::new(CallState::resumed(call));
            let grants = call.grant_all();
            channel.calls.insert(&call);
            channel.grant_outputs(&call, grants);
        }
        channel
    }

    /// The host's half of the channel, which is quiesced.
    pub(crate) fn checkpoint(&self, transport: usize) -> ChannelCheckpoint {
        let sent = self.calls.iter().filter_map(|call| {
            let input = self.outbox.unsent_input(call.id)?;
            Some(call.checkpoint(self.outbox.unsent_credit(call.id), input))
        });
        let mut calls: Vec<CallCheckpoint> = sent.collect();
        calls.sort_by_key(|call| call.id);
        ChannelCheckpoint {
            session: self.session.number(),
            transport,
            last_id: self.calls.last_id(),
            calls,
        }
    }

    // Calls.

    /// Makes a call. If that is not possible, the call is over, with the reason as its outcome.
    pub(crate) fn open(&mut self, request: OutgoingRequest, sinks: [Sink; 2]) -> Arc<CallState> {
        let len = request.message.len();
        let refusal = match self.session.check() {
            Err(error) => Some(error),
            Ok(()) if len > MAX_MESSAGE => Some(CallError::RequestTooLarge {
                len,
                limit: MAX_MESSAGE,
            }),
            Ok(()) => None,
        };
        if let Some(refusal) = refusal {
            return Arc::new(CallState::refused(&request, sinks, refusal));
        }
        let call = Arc::new(CallState::new(self.calls.free_id(), &request, sinks));
        self.calls.insert(&call);
        let sender = Sender::Call(call.id);
        self.outbox
            .message(sender, call.lane, FrameKind::Request, request.message, None);
        call
    }

    /// Makes a call whose outcome is not awaited: if it gives something, that is taken back.
    pub(crate) fn open_detached(&mut self, lane: Lane, op: &Op) {
        let sinks = [Sink::Discard, Sink::Discard];
        self.open(OutgoingRequest::to_lane(lane, op), sinks)
            .abandon();
    }

    /// Has the guest end a call whose reply is still wanted.
    pub(crate) fn cancel(&mut self, call: &CallState) {
        if !call.is_over() && self.outbox.cancel(call.lane, call.id) {
            self.was_never_made(call);
        }
    }

    /// Gives a call up: cancels it if it is open, and takes back what it gave.
    pub(crate) fn abandon(&mut self, call: &CallState) {
        match call.abandon() {
            AbandonAction::Nothing => {}
            AbandonAction::Cancel => {
                if self.outbox.cancel(call.lane, call.id) {
                    self.was_never_made(call);
                }
                let grants = call.discard(true);
                self.grant_outputs(call, grants);
            }
            AbandonAction::Undo(lane, op) => self.open_detached(lane, &op),
        }
    }

    /// Ends a call of which the guest has not heard, so that no reply will come.
    fn was_never_made(&mut self, call: &CallState) {
        self.calls.remove(call.id);
        call.finish(Err(CallError::Remote(WireError {
            kind: ErrorKind::Cancelled,
            errno: 0,
            message: "cancelled".to_owned(),
        })));
    }

    /// Ends a call with its reply, and frees its id.
    pub(crate) fn reply(&mut self, call: &CallState, reply: Result<Reply, WireError>) {
        self.calls.answered(call);
        self.outbox.forget(call.id);
        if let Some((lane, op)) = call.finish(reply.map_err(CallError::Remote)) {
            self.open_detached(lane, &op);
        }
    }

    /// Puts as much of `bytes` on the input stream as may go; returns how much; 0: wait for room.
    pub(crate) fn offer_input(
        &mut self,
        call: &CallState,
        bytes: &[u8],
    ) -> Result<usize, CallError> {
        let wanted = bytes.len().min(CHUNK).min(self.outbox.room(call.id));
        let len = call.spend(wanted)?;
        if len > 0 {
            let bytes = bytes[..len].to_vec();
            self.outbox.data(call.lane, call.id, StreamId::Input, bytes);
        }
        Ok(len)
    }

    /// Ends the input stream. Ended already is fine.
    pub(crate) fn finish_input(&mut self, call: &CallState) {
        if call.finish_input() {
            self.outbox.end(call.lane, call.id, StreamId::Input);
        }
    }

    /// Grants the guest more of an output stream.
    pub(crate) fn grant(&mut self, call: &CallState, stream: StreamId, bytes: u32) {
        if bytes > 0 && self.calls.get(call.id).is_some() && !call.is_over() {
            self.outbox.credit(call.lane, call.id, stream, bytes);
        }
    }

    fn grant_outputs(&mut self, call: &CallState, grants: [u32; 2]) {
        for (stream, bytes) in [StreamId::Output, StreamId::Error].into_iter().zip(grants) {
            self.grant(call, stream, bytes);
        }
    }

    /// Sends a ping; the receiver is notified when it is answered, and closed when it will not be.
    pub(crate) fn ping(&mut self) -> Result<oneshot::Receiver<()>, CallError> {
        self.session.check()?;
        let (id, answer) = self.calls.add_ping();
        self.outbox.ping(id);
        Ok(answer)
    }

    /// Sends the reply to a guest request, unless its session is over; the receiver is notified when it is
    /// sent.
    pub(crate) fn reply_to_guest(
        &mut self,
        session: u64,
        lane: Lane,
        id: CallId,
        bytes: Vec<u8>,
    ) -> Option<oneshot::Receiver<()>> {
        if self.session.number() != session || !self.session.is_open() {
            return None;
        }
        let (done, sent) = oneshot::channel();
        let (sender, kind) = (Sender::Reply(id), FrameKind::HostReply);
        self.outbox.message(sender, lane, kind, bytes, Some(done));
        Some(sent)
    }

    // Quiescing.

    /// Holds back what has not begun to be sent, and requests the agent to quiesce.
    pub(crate) fn begin_quiesce(&mut self) -> Result<Arc<CallState>, CallError> {
        self.session.check()?;
        let request = OutgoingRequest::to_agent(&AgentOp::Quiesce);
        let id = self.calls.free_id();
        let mut frames = Vec::new();
        for frame in Frame::split(FrameKind::Request, request.lane, id, &request.message) {
            frame.encode(&mut frames);
        }
        if !self.outbox.hold(id, frames) {
            return Err(CallError::Unexpected(Quiesce::NAME));
        }
        let sinks = [Sink::Discard, Sink::Discard];
        let call = Arc::new(CallState::new(id, &request, sinks));
        self.calls.insert(&call);
        Ok(call)
    }

    /// Sends everything again. The agent waits for a frame, so one is sent.
    pub(crate) fn end_quiesce(&mut self) {
        self.outbox.release();
        // After the end of a session no agent waits.
        let _ = self.ping();
    }

    // Sessions.

    /// The agent announces itself. In a session that is a reboot, which ends it.
    pub(crate) fn announce(&mut self, accepted: Result<(), ChannelError>) {
        self.session.announce();
        if self.session.is_open() {
            self.end_session(ChannelError::Rebooted);
        }
        if let Err(mismatch) = accepted {
            self.session.answer(Err(mismatch));
        }
    }

    /// The hello of a session has come. True when it opens the session.
    pub(crate) fn open_session(
        &mut self,
        hello: Hello,
        accepted: Result<(), ChannelError>,
    ) -> bool {
        if !self.session.may_open(hello.session) {
            // A repetition, as the host repeats its own hello, or one that is too late.
            return false;
        }
        if let Err(mismatch) = accepted {
            self.session.answer(Err(mismatch));
            return false;
        }
        let first = self.session.open(hello.session).map(|request| {
            let request = OutgoingRequest::to_agent(&request());
            self.open(request, [Sink::Discard, Sink::Discard])
        });
        self.session.answer(Ok(OpenSession { hello, first }));
        true
    }

    /// Stops waiting for the hello of that session.
    pub(crate) fn stop_awaiting(&mut self, session: u64) {
        if self.session.awaits(session) {
            self.session.stop_awaiting();
            self.outbox.set_preamble(Vec::new());
        }
    }

    /// Sends what starts a session, if that has not been answered yet.
    pub(crate) fn send_preamble(&mut self, session: u64, bytes: Vec<u8>) {
        if self.session.awaits(session) {
            self.outbox.set_preamble(bytes);
        }
    }

    /// Fails all calls with `reason`, unless the channel is dead; returns the reason that holds.
    pub(crate) fn end_session(&mut self, reason: ChannelError) -> Arc<ChannelError> {
        let was_dead = self.session.is_dead();
        let reason = self.session.end(reason);
        if !was_dead {
            self.calls.fail_all(&reason);
            self.outbox.clear();
        }
        reason
    }

    /// Ends the channel permanently; returns the reason, unless it had ended before.
    pub(crate) fn die(&mut self, reason: ChannelError) -> Option<Arc<ChannelError>> {
        if self.session.is_dead() {
            return None;
        }
        let reason = self.end_session(reason);
        self.session.die(Arc::clone(&reason));
        Some(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DISCARD: [Sink; 2] = [Sink::Discard, Sink::Discard];

    fn open_channel() -> ChannelState {
        let checkpoint = ChannelCheckpoint {
            session: 7,
            transport: 0,
            last_id: 0,
            calls: Vec::new(),
        };
        ChannelState::resumed(&checkpoint)
    }

    fn request() -> OutgoingRequest {
        OutgoingRequest::to_lane(Lane::VM, &Op::ClockGet)
    }

    /// What to write, as frames.
    fn written(channel: &mut ChannelState) -> Vec<Frame> {
        let mut bytes = Vec::new();
        channel.outbox.fill(&mut bytes, usize::MAX);
        let mut decoder = provium_protocol::FrameDecoder::in_step();
        decoder.push(&bytes);
        let mut frames = Vec::new();
        while let Some(item) = decoder.next_item().unwrap() {
            if let provium_protocol::frame::Item::Frame(frame) = item {
                frames.push(frame);
            }
        }
        frames
    }

    #[test]
    fn a_dead_channel_stays_dead_and_keeps_its_first_reason() {
        let mut channel = open_channel();
        let call = channel.open(request(), DISCARD);
        assert!(channel.die(ChannelError::HungUp).is_some());
        assert!(call.is_over(), "its calls fail");
        assert!(channel.die(ChannelError::SessionOver).is_none());
        channel.end_session(ChannelError::Rebooted);
        let (answer, mut answered) = oneshot::channel();
        channel
            .session
            .await_hello(crate::session::PendingHandshake {
                session: 8,
                first: None,
                answer,
            });
        let refused = answered.try_recv().unwrap();
        assert!(matches!(refused, Err(ChannelError::HungUp)));
        assert!(!channel.open_session(provium_testkit::agent_hello(8), Ok(())));
        assert!(channel.open(request(), DISCARD).is_over());
        assert!(written(&mut channel).is_empty());
    }

    #[test]
    fn what_an_abandoned_call_has_made_is_undone() {
        let mut channel = open_channel();
        let call = channel.open(request(), DISCARD);
        written(&mut channel);
        channel.abandon(&call);
        let kinds: Vec<_> = written(&mut channel)
            .iter()
            .map(|frame| frame.kind)
            .collect();
        assert_eq!(kinds, [FrameKind::Cancel]);
        let worker = Reply::Worker {
            lane: Lane::FIRST_WORKER,
            pid: 5,
        };
        channel.reply(&call, Ok(worker));
        let [undo] = &written(&mut channel)[..] else {
            panic!("one request");
        };
        assert_eq!((undo.kind, undo.lane), (FrameKind::Request, Lane::VM));
        let retire = Op::RetireWorker {
            lane: Lane::FIRST_WORKER,
        };
        assert_eq!(undo.payload, provium_protocol::codec::encode(&retire));
    }

    proptest! {
        /// Calls, pings, cancels and replies in any order: a call ends once, a request that was sent is awaited
        /// until its reply, and one that was not sent is not awaited.
        #[test]
        fn each_request_that_was_sent_is_awaited_until_its_reply(
            steps in prop::collection::vec((0u8..5, any::<prop::sample::Index>()), 1..60),
        ) {
            let mut channel = open_channel();
            let mut calls: Vec<Arc<CallState>> = Vec::new();
            let mut sent: Vec<CallId> = Vec::new();
            for (step, index) in steps {
                match step {
                    0 => calls.push(channel.open(request(), DISCARD)),
                    1 => for frame in written(&mut channel) {
                        if frame.kind == FrameKind::Request {
                            sent.push(frame.call);
                        } else {
                            prop_assert_eq!(frame.kind, FrameKind::Cancel);
                            prop_assert!(sent.contains(&frame.call));
                        }
                    },
                    2 if !calls.is_empty() => channel.cancel(&calls[index.index(calls.len())]),
                    3 if !calls.is_empty() => {
                        let call = calls.swap_remove(index.index(calls.len()));
                        channel.abandon(&call);
                    }
                    4 if !sent.is_empty() => {
                        let id = sent.swap_remove(index.index(sent.len()));
                        let call = channel.calls.get(id).cloned().unwrap();
                        prop_assert!(!call.is_over());
                        channel.reply(&call, Ok(Reply::Done));
                        prop_assert!(call.is_over());
                        prop_assert!(channel.calls.get(id).is_none());
                    }
                    _ => {}
                }
                for id in &sent {
                    prop_assert!(channel.calls.get(*id).is_some_and(|call| !call.is_over()));
                }
                for call in &calls {
                    prop_assert_eq!(call.is_over(), channel.calls.get(call.id).is_none());
                }
            }
            channel.end_session(ChannelError::SessionOver);
            prop_assert!(calls.iter().all(|call| call.is_over()));
            prop_assert!(written(&mut channel).is_empty());
        }
    }
}
