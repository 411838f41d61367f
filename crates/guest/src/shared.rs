//! The channel's state: the session, the table of calls, and what waits to be written.
//!
//! | phase | calls | leaves it by |
//! |---|---|---|
//! | over | fail at once, with the reason | a hello of the awaited session → open |
//! | open | run | a reboot, a violation, a resync → over |
//! | dead | fail at once, with the reason | never |
//!
//! Lock order: the core, then a call. No lock is held across an await.
//!
//! Long because whatever changes the table, the outbox or the phase does so here, under the one lock.

use crate::call_state::{AbandonAction, CallState};
use crate::checkpoint::{CallCheckpoint, ChannelCheckpoint};
use crate::error::{CallError, ChannelError, Violation};
use crate::incoming::Sink;
use crate::kind::CallKind;
use crate::outbox::{CHUNK, Outbox, Sender};
use crate::outgoing::Outgoing;
use crate::reply_limits::ReplyLimits;
use crate::session::{Announcement, Identity};
use provium_protocol::frame::MAX_MESSAGE;
use provium_protocol::op::Quiesce;
use provium_protocol::{
    AgentOp, CallId, Channel, ErrorKind, Frame, FrameKind, Hello, Lane, Op, Reply, Request,
    WireError,
};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, Notify, oneshot, watch};

/// Cancelled calls that are remembered past their reply. Words about one may cross with it, when the
/// guest gave up waiting for its own thread.
const LATE_LIMIT: usize = 256;

/// The state of a channel that its handles and tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    core: Mutex<Core>,
    /// Something waits to be written.
    pub(crate) outgoing: Notify,
    /// A reader that was parked after a violation may continue.
    pub(crate) resume: Notify,
    pub(crate) announcements: watch::Sender<Option<Announcement>>,
    pub(crate) closed: watch::Sender<Option<Arc<ChannelError>>>,
    /// One handshake at a time.
    pub(crate) handshakes: AsyncMutex<()>,
    pub(crate) identity: Identity,
    /// Where the channel's own tasks run.
    pub(crate) runtime: Handle,
}

#[derive(Debug)]
struct Core {
    phase: Phase,
    session: u64,
    calls: HashMap<CallId, Arc<CallState>>,
    cancelled: VecDeque<CallId>,
    /// An abandoned ping keeps its id until it is answered.
    pings: HashMap<CallId, oneshot::Sender<()>>,
    last_id: u32,
    outbox: Outbox,
    awaiting: Option<Awaiting>,
    /// The agent announced itself since the session was opened.
    announced: bool,
    /// Bytes that the decoder holds belong to the guest before its reboot.
    stale_bytes: bool,
}

#[derive(Debug, Clone)]
enum Phase {
    Open,
    Over(Arc<ChannelError>),
    Dead(Arc<ChannelError>),
}

/// A handshake under way.
pub(crate) struct Awaiting {
    pub(crate) session: u64,
    pub(crate) first: Option<FirstRequest>,
    pub(crate) answer: oneshot::Sender<Result<Opened, ChannelError>>,
}

/// Makes the request to the agent that precedes all others of a session.
pub(crate) type FirstRequest = Box<dyn FnOnce() -> AgentOp + Send>;

/// A session that has been opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) hello: Hello,
    /// The call of the [`FirstRequest`].
    pub(crate) first: Option<Arc<CallState>>,
}

impl fmt::Debug for Awaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awaiting")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// A channel without a session.
    pub(crate) fn new(identity: Identity, first: Option<Announcement>) -> Self {
        Self {
            core: Mutex::new(Core {
                phase: Phase::Over(Arc::new(ChannelError::NotEstablished)),
                session: 0,
                calls: HashMap::new(),
                cancelled: VecDeque::new(),
                pings: HashMap::new(),
                last_id: 0,
                outbox: Outbox::default(),
                awaiting: None,
                announced: first.is_some(),
                stale_bytes: false,
            }),
            outgoing: Notify::new(),
            resume: Notify::new(),
            announcements: watch::Sender::new(first),
            closed: watch::Sender::new(None),
            handshakes: AsyncMutex::new(()),
            identity,
            runtime: Handle::current(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Calls.

    /// Makes a call. When that cannot be, its outcome says so at once.
    pub(crate) fn open(&self, request: Outgoing, sinks: [Sink; 2]) -> Arc<CallState> {
        let refusal = {
            let mut core = self.lock();
            match &core.phase {
                Phase::Over(reason) | Phase::Dead(reason) => CallError::Channel(Arc::clone(reason)),
                Phase::Open if request.message.len() > MAX_MESSAGE => CallError::RequestTooLarge {
                    len: request.message.len(),
                    limit: MAX_MESSAGE,
                },
                Phase::Open => {
                    let call = core.open(request, sinks);
                    drop(core);
                    self.outgoing.notify_one();
                    return call;
                }
            }
        };
        let Outgoing {
            lane, limits, kind, ..
        } = request;
        let call = CallState::new(CallId(0), lane, limits, kind, sinks);
        call.finish(Err(refusal));
        Arc::new(call)
    }

    /// Makes a call whose outcome is not awaited.
    pub(crate) fn open_detached(&self, lane: Lane, op: &Op) {
        self.open(Outgoing::to_lane(lane, op), [Sink::Discard, Sink::Discard])
            .abandon();
    }

    /// The calls of a lane that are open, oldest first.
    pub(crate) fn open_calls(&self, lane: Lane) -> Vec<Arc<CallState>> {
        let core = self.lock();
        let of_lane = |call: &&Arc<CallState>| call.lane == lane && !call.is_over();
        let mut calls: Vec<_> = core.calls.values().filter(of_lane).cloned().collect();
        drop(core);
        calls.sort_by_key(|call| (call.opened, call.id));
        calls
    }

    /// The lanes that have open calls, in order.
    pub(crate) fn lanes_in_use(&self) -> BTreeSet<Lane> {
        self.lock().calls.values().map(|call| call.lane).collect()
    }

    // Checkpoints.

    /// Holds back what has not begun to be sent, and requests the agent to quiesce.
    pub(crate) fn begin_quiesce(&self) -> Result<Arc<CallState>, CallError> {
        let mut core = self.lock();
        if let Phase::Over(reason) | Phase::Dead(reason) = &core.phase {
            return Err(CallError::Channel(Arc::clone(reason)));
        }
        let request = Outgoing::to_agent(&AgentOp::Quiesce);
        let id = core.free_id();
        let mut frames = Vec::new();
        for frame in Frame::split(FrameKind::Request, request.lane, id, &request.message) {
            frame.encode(&mut frames);
        }
        if !core.outbox.hold(id, frames) {
            return Err(CallError::Unexpected(Quiesce::NAME));
        }
        let sinks = [Sink::Discard, Sink::Discard];
        let call = Arc::new(CallState::new(
            id,
            request.lane,
            request.limits,
            request.kind,
            sinks,
        ));
        core.calls.insert(id, Arc::clone(&call));
        drop(core);
        self.outgoing.notify_one();
        Ok(call)
    }

    /// Sends everything again. The agent waits for a frame, so one is sent.
    pub(crate) fn end_quiesce(&self) {
        self.lock().outbox.release();
        // After the end of a session there is no agent to wake.
        let _ = self.ping();
    }

    /// The host's half of the channel, which is quiesced.
    pub(crate) fn checkpoint(&self, transport: usize) -> ChannelCheckpoint {
        let core = self.lock();
        let mut calls: Vec<CallCheckpoint> = core
            .calls
            .values()
            .filter_map(|call| {
                let input = core.outbox.unsent_input(call.id)?;
                Some(call.checkpoint(core.outbox.unsent_credit(call.id), input))
            })
            .collect();
        calls.sort_by_key(|call| call.id);
        ChannelCheckpoint {
            session: core.session,
            transport,
            last_id: core.last_id,
            calls,
        }
    }

    /// A channel in the session of a checkpoint, with its calls, which are abandoned.
    pub(crate) fn resumed(identity: Identity, checkpoint: &ChannelCheckpoint) -> Self {
        let shared = Self::new(identity, None);
        let mut core = shared.lock();
        core.phase = Phase::Open;
        core.session = checkpoint.session;
        core.last_id = checkpoint.last_id;
        for call in &checkpoint.calls {
            let call = Arc::new(CallState::resumed(call));
            let grants = call.grant_all();
            core.calls.insert(call.id, Arc::clone(&call));
            for (channel, bytes) in [Channel::Output, Channel::Error].into_iter().zip(grants) {
                core.grant(&call, channel, bytes);
            }
        }
        drop(core);
        shared
    }

    /// A call that is not in the checkpoint.
    pub(crate) fn missing(&self, lane: Lane) -> Arc<CallState> {
        let sinks = [Sink::Discard, Sink::Discard];
        let (limits, kind) = (ReplyLimits::plain(), CallKind::Other);
        let call = CallState::new(CallId(0), lane, limits, kind, sinks);
        call.finish(Err(CallError::Unexpected("reattach")));
        Arc::new(call)
    }

    // Calls' ends.

    /// Has the guest end a call whose reply is still wanted.
    pub(crate) fn cancel(&self, call: &CallState) {
        if call.is_over() {
            return;
        }
        let mut core = self.lock();
        let unsent = core.outbox.cancel(call.lane, call.id);
        if unsent {
            core.calls.remove(&call.id);
        }
        drop(core);
        if unsent {
            let cancelled = CallError::Remote(WireError {
                kind: ErrorKind::Cancelled,
                errno: 0,
                message: "cancelled".to_owned(),
            });
            call.finish(Err(cancelled));
        }
        self.outgoing.notify_one();
    }

    /// Gives a call up: cancels it if it is open, and takes back what it gave.
    pub(crate) fn abandon(&self, call: &CallState) {
        let mut core = self.lock();
        match call.abandon() {
            AbandonAction::Nothing => {}
            AbandonAction::Cancel => {
                if core.outbox.cancel(call.lane, call.id) {
                    // It was never made, so no reply will come for those who still wait.
                    core.calls.remove(&call.id);
                    call.finish(Err(CallError::Remote(WireError {
                        kind: ErrorKind::Cancelled,
                        errno: 0,
                        message: "cancelled".to_owned(),
                    })));
                }
                for (channel, bytes) in [Channel::Output, Channel::Error]
                    .into_iter()
                    .zip(call.discard(true))
                {
                    core.grant(call, channel, bytes);
                }
                drop(core);
                self.outgoing.notify_one();
            }
            AbandonAction::Undo(lane, op) => {
                drop(core);
                self.open_detached(lane, &op);
            }
        }
    }

    /// Whether input of the call waits here to be sent.
    pub(crate) fn has_unsent_input(&self, call: &CallState) -> bool {
        self.lock().outbox.room(call.id) < crate::outbox::QUEUE_LIMIT
    }

    /// Puts as much of `bytes` on the input channel as may go; 0: wait for room.
    pub(crate) fn offer_input(&self, call: &CallState, bytes: &[u8]) -> Result<usize, CallError> {
        let mut core = self.lock();
        let wanted = bytes.len().min(CHUNK).min(core.outbox.room(call.id));
        let len = call.spend(wanted)?;
        if len > 0 {
            core.outbox
                .data(call.lane, call.id, Channel::Input, bytes[..len].to_vec());
            drop(core);
            self.outgoing.notify_one();
        }
        Ok(len)
    }

    /// Ends the input channel; false when it had ended.
    pub(crate) fn finish_input(&self, call: &CallState) -> bool {
        let mut core = self.lock();
        let first = call.finish_input();
        if first {
            core.outbox.end(call.lane, call.id, Channel::Input);
            drop(core);
            self.outgoing.notify_one();
        }
        first
    }

    /// Grants the guest more of a channel.
    pub(crate) fn grant(&self, call: &CallState, channel: Channel, bytes: u32) {
        if bytes > 0 {
            self.lock().grant(call, channel, bytes);
            self.outgoing.notify_one();
        }
    }

    /// Sends a ping; the receiver is notified when it is answered, and closed when it will not be.
    pub(crate) fn ping(&self) -> Result<oneshot::Receiver<()>, CallError> {
        let mut core = self.lock();
        if let Phase::Over(reason) | Phase::Dead(reason) = &core.phase {
            return Err(CallError::Channel(Arc::clone(reason)));
        }
        let id = core.free_id();
        let (answered, answer) = oneshot::channel();
        core.pings.insert(id, answered);
        core.outbox.ping(id);
        drop(core);
        self.outgoing.notify_one();
        Ok(answer)
    }

    /// Why calls fail now.
    pub(crate) fn reason(&self) -> Option<Arc<ChannelError>> {
        match &self.lock().phase {
            Phase::Open => None,
            Phase::Over(reason) | Phase::Dead(reason) => Some(Arc::clone(reason)),
        }
    }

    // What the reader finds.

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.lock().phase, Phase::Open)
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.lock().phase, Phase::Dead(_))
    }

    pub(crate) fn session(&self) -> u64 {
        self.lock().session
    }

    /// Whether what was read so far should be forgotten; asked once.
    pub(crate) fn take_stale_bytes(&self) -> bool {
        std::mem::take(&mut self.lock().stale_bytes)
    }

    pub(crate) fn call(&self, id: CallId) -> Option<Arc<CallState>> {
        self.lock().calls.get(&id).cloned()
    }

    /// Whether the call was cancelled and answered not long ago.
    pub(crate) fn was_cancelled(&self, id: CallId) -> bool {
        self.lock().cancelled.contains(&id)
    }

    /// Ends a call with its reply and frees its id.
    pub(crate) fn reply(&self, call: &CallState, reply: Result<Reply, WireError>) {
        {
            let mut core = self.lock();
            core.calls.remove(&call.id);
            core.outbox.forget(call.id);
            if call.is_abandoned() {
                core.cancelled.truncate(LATE_LIMIT - 1);
                core.cancelled.push_front(call.id);
            }
        }
        if let Some((lane, op)) = call.finish(reply.map_err(CallError::Remote)) {
            self.open_detached(lane, &op);
        }
    }

    /// A ping was answered; false when there was none.
    pub(crate) fn pong(&self, id: CallId) -> bool {
        let waiter = self.lock().pings.remove(&id);
        // The receiver may have been dropped.
        waiter.map(|waiter| waiter.send(())).is_some()
    }

    /// A hello has come. True when it opens a session.
    pub(crate) fn on_hello(&self, hello: Hello) -> bool {
        let mut core = self.lock();
        let verdict = self.identity.check(&hello);
        if hello.session == 0 {
            core.announced = true;
            if matches!(core.phase, Phase::Open) {
                core.end_session(ChannelError::Rebooted);
            }
            if let Err(mismatch) = verdict {
                core.answer(Err(mismatch));
            }
            drop(core);
            self.announcements.send_modify(|last| {
                let number = last.as_ref().map_or(1, |last| last.number + 1);
                *last = Some(Announcement { number, hello });
            });
            return false;
        }
        let awaited = core
            .awaiting
            .as_ref()
            .is_some_and(|it| it.session == hello.session);
        if !awaited || !matches!(core.phase, Phase::Over(_)) {
            // A repetition, as the host repeats its own hello, or one that is too late.
            return false;
        }
        if let Err(mismatch) = verdict {
            core.answer(Err(mismatch));
            return false;
        }
        core.phase = Phase::Open;
        core.session = hello.session;
        core.announced = false;
        let first = core
            .awaiting
            .as_mut()
            .and_then(|awaiting| awaiting.first.take());
        let first = first.map(|request| {
            let request = Outgoing::to_agent(&request());
            core.open(request, [Sink::Discard, Sink::Discard])
        });
        core.answer(Ok(Opened { hello, first }));
        drop(core);
        self.outgoing.notify_one();
        self.closed.send_replace(None);
        true
    }

    /// The agent's greeting cannot be read.
    pub(crate) fn greeting_unreadable(&self) {
        self.lock().answer(Err(ChannelError::Greeting));
    }

    /// The agent broke the protocol: the session ends, and nothing is read until the next one.
    pub(crate) fn on_violation(&self, violation: Violation) {
        let mut core = self.lock();
        if matches!(core.phase, Phase::Open) {
            let reason = core.end_session(ChannelError::Violation(violation));
            self.closed.send_replace(Some(reason));
        }
    }

    /// Waits out a violation.
    pub(crate) async fn until_resumed(&self) {
        let parked = || {
            matches!(&self.lock().phase, Phase::Over(reason)
                if matches!(**reason, ChannelError::Violation(_)))
        };
        while parked() {
            self.resume.notified().await;
        }
    }

    // What the writer asks.

    /// Appends what is to be written; tells writers of input that there is room.
    pub(crate) fn fill(&self, out: &mut Vec<u8>, limit: usize) {
        let mut core = self.lock();
        for id in core.outbox.fill(out, limit) {
            if let Some(call) = core.calls.get(&id) {
                call.input_ready.notify_one();
            }
        }
    }

    /// Sends a reply, unless its session is over; the receiver is notified when it is sent.
    pub(crate) fn send_reply(
        &self,
        session: u64,
        lane: Lane,
        id: CallId,
        bytes: Vec<u8>,
    ) -> Option<oneshot::Receiver<()>> {
        let mut core = self.lock();
        if core.session != session || !matches!(core.phase, Phase::Open) {
            return None;
        }
        let (done, sent) = oneshot::channel();
        core.outbox.message(
            Sender::Reply(id),
            lane,
            FrameKind::HostReply,
            bytes,
            Some(done),
        );
        drop(core);
        self.outgoing.notify_one();
        Some(sent)
    }

    // Sessions.

    /// Ends the session, whatever it is in, so that a new one can begin.
    pub(crate) fn end_session(&self, reason: ChannelError, rebooted: bool) {
        let mut core = self.lock();
        if rebooted && !core.announced {
            core.stale_bytes = true;
        }
        core.end_session(reason);
        drop(core);
        self.resume.notify_one();
    }

    /// Waits for the hello of a session.
    pub(crate) fn await_hello(&self, awaiting: Awaiting) {
        let mut core = self.lock();
        if let Phase::Dead(reason) = &core.phase {
            let reason = ChannelError::clone(reason);
            // The receiver is the caller's.
            let _ = awaiting.answer.send(Err(reason));
        } else {
            core.awaiting = Some(awaiting);
        }
    }

    /// Stops waiting for the hello of that session.
    pub(crate) fn stop_awaiting(&self, session: u64) {
        let mut core = self.lock();
        if core
            .awaiting
            .as_ref()
            .is_some_and(|it| it.session == session)
        {
            core.awaiting = None;
            core.outbox.set_preamble(Vec::new());
        }
    }

    /// Whether the agent announced itself since the last session was opened.
    pub(crate) fn announced(&self) -> bool {
        self.lock().announced
    }

    /// Sends what starts a session, if it has not been answered yet.
    pub(crate) fn send_preamble(&self, session: u64, bytes: Vec<u8>) {
        let mut core = self.lock();
        if core
            .awaiting
            .as_ref()
            .is_some_and(|it| it.session == session)
        {
            core.outbox.set_preamble(bytes);
            drop(core);
            self.outgoing.notify_one();
        }
    }

    /// Closes the channel permanently. The first reason is kept.
    pub(crate) fn die(&self, reason: ChannelError) {
        let mut core = self.lock();
        if matches!(core.phase, Phase::Dead(_)) {
            return;
        }
        let reason = core.end_session(reason);
        core.phase = Phase::Dead(Arc::clone(&reason));
        core.answer(Err(ChannelError::clone(&reason)));
        self.closed.send_replace(Some(reason));
        drop(core);
        self.resume.notify_one();
        self.outgoing.notify_one();
    }
}

impl Core {
    /// An id that no open call has. Ids are reused as late as can be.
    fn free_id(&mut self) -> CallId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let id = CallId(self.last_id);
            if id.0 != 0 && !self.calls.contains_key(&id) && !self.pings.contains_key(&id) {
                return id;
            }
        }
    }

    /// Makes a call of an open session.
    fn open(&mut self, request: Outgoing, sinks: [Sink; 2]) -> Arc<CallState> {
        let Outgoing {
            lane,
            kind,
            limits,
            message,
        } = request;
        let id = self.free_id();
        let call = Arc::new(CallState::new(id, lane, limits, kind, sinks));
        self.calls.insert(id, Arc::clone(&call));
        self.outbox
            .message(Sender::Call(id), lane, FrameKind::Request, message, None);
        call
    }

    fn grant(&mut self, call: &CallState, channel: Channel, bytes: u32) {
        if bytes > 0 && self.calls.contains_key(&call.id) && !call.is_over() {
            self.outbox.credit(call.lane, call.id, channel, bytes);
        }
    }

    /// Fails all calls with `reason`, unless the channel is dead.
    fn end_session(&mut self, reason: ChannelError) -> Arc<ChannelError> {
        if let Phase::Dead(reason) = &self.phase {
            return Arc::clone(reason);
        }
        let reason = Arc::new(reason);
        self.phase = Phase::Over(Arc::clone(&reason));
        for (_, call) in self.calls.drain() {
            call.finish(Err(CallError::Channel(Arc::clone(&reason))));
        }
        self.pings.clear();
        self.cancelled.clear();
        self.outbox.clear();
        reason
    }

    /// Answers the handshake that waits for a hello.
    fn answer(&mut self, result: Result<Opened, ChannelError>) {
        if let Some(awaiting) = self.awaiting.take() {
            // The receiver may have been dropped.
            let _ = awaiting.answer.send(result);
        }
    }
}
