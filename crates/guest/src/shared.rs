//! What a channel's handles and tasks share: its [state](crate::channel_state) under one lock, and the means to
//! notify each other.
//!
//! No lock is held across an await.

use crate::call_state::CallState;
use crate::channel_state::ChannelState;
use crate::error::{ChannelError, Violation};
use crate::session::{Announcement, Identity};
use provium_protocol::{Hello, StreamId};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};

/// The state of a channel that its handles and tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<ChannelState>,
    /// Something waits to be written.
    pub(crate) outgoing: Notify,
    /// A reader that was parked after a violation may continue.
    resume: Notify,
    pub(crate) announcements: watch::Sender<Option<Announcement>>,
    pub(crate) closed: watch::Sender<Option<Arc<ChannelError>>>,
    /// One handshake at a time.
    pub(crate) handshakes: AsyncMutex<()>,
    identity: Identity,
    /// Where the channel's own tasks run.
    pub(crate) runtime: Handle,
}

impl Shared {
    /// A channel in this state, whose agent has announced itself with `first`.
    pub(crate) fn new(
        state: ChannelState,
        identity: Identity,
        first: Option<Announcement>,
    ) -> Self {
        Self {
            state: Mutex::new(state),
            outgoing: Notify::new(),
            resume: Notify::new(),
            announcements: watch::Sender::new(first),
            closed: watch::Sender::new(None),
            handshakes: AsyncMutex::new(()),
            identity,
            runtime: Handle::current(),
        }
    }

    /// Does `work` on the state, and wakes the writer if there is more to write then.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut ChannelState) -> T) -> T {
        let mut channel = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut channel);
        let is_changed = channel.outbox.take_changed();
        drop(channel);
        if is_changed {
            self.outgoing.notify_one();
        }
        done
    }

    /// Grants the guest more of an output stream.
    pub(crate) fn grant(&self, call: &CallState, stream: StreamId, bytes: u32) {
        if bytes > 0 {
            self.with(|channel| channel.grant(call, stream, bytes));
        }
    }

    /// Why calls fail now; `None` while they do not.
    pub(crate) fn reason(&self) -> Option<Arc<ChannelError>> {
        self.with(|channel| channel.session.reason().cloned())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.with(|channel| channel.session.is_open())
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.with(|channel| channel.session.is_dead())
    }

    /// A hello has come. True when it opens a session.
    pub(crate) fn on_hello(&self, hello: Hello) -> bool {
        let accepted = self.identity.check(&hello);
        if hello.session == 0 {
            self.with(|channel| channel.announce(accepted));
            self.announcements.send_modify(|last| {
                let number = last.as_ref().map_or(1, |last| last.number + 1);
                *last = Some(Announcement { number, hello });
            });
            return false;
        }
        self.with(|channel| {
            let is_opened = channel.open_session(hello, accepted);
            if is_opened {
                // Under the lock, so that a channel which dies at this moment stays closed.
                self.closed.send_replace(None);
            }
            is_opened
        })
    }

    /// The agent broke the protocol: the session ends, and nothing is read until the next one.
    pub(crate) fn on_violation(&self, violation: Violation) {
        self.with(|channel| {
            if channel.session.is_open() {
                let reason = channel.end_session(ChannelError::Violation(violation));
                self.closed.send_replace(Some(reason));
            }
        });
    }

    /// Waits until a new session is begun after a violation, or the channel ends.
    pub(crate) async fn until_resumed(&self) {
        while self.with(|channel| channel.session.is_violated()) {
            self.resume.notified().await;
        }
    }

    /// Appends what is to be written; wakes writers of input for which there is room.
    pub(crate) fn fill(&self, out: &mut Vec<u8>, limit: usize) {
        self.with(|channel| {
            for id in channel.outbox.fill(out, limit) {
                if let Some(call) = channel.calls.get(id) {
                    call.input_ready.notify_one();
                }
            }
        });
    }

    /// Ends the session, so that a new one can begin; `rebooted`: of a guest that reboots.
    pub(crate) fn end_session(&self, reason: ChannelError, rebooted: bool) {
        self.with(|channel| {
            if rebooted {
                channel.session.expect_reboot();
            }
            channel.end_session(reason);
        });
        self.resume.notify_one();
    }

    /// Closes the channel permanently. The first reason is kept.
    pub(crate) fn die(&self, reason: ChannelError) {
        let died = self.with(|channel| {
            let reason = channel.die(reason);
            reason.map(|reason| self.closed.send_replace(Some(reason)))
        });
        if died.is_some() {
            self.resume.notify_one();
            self.outgoing.notify_one();
        }
    }
}
