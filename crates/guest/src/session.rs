//! The session of a channel: which agent announced itself, which one the host accepts, and whether calls run.
//!
//! | phase | calls | leaves it by |
//! |---|---|---|
//! | over | fail at once, with the reason | the awaited hello → open |
//! | open | run | a reboot, a violation, a resync → over |
//! | dead | fail at once, with the reason | never |

use crate::call_state::CallState;
use crate::error::{CallError, ChannelError};
use provium_protocol::{AgentOp, Hello};
use std::fmt;
use std::sync::Arc;
use tokio::sync::oneshot;

/// An agent that made itself known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Counts the announcements of a channel, from 1; a number over 1 is a reboot.
    pub number: u64,
    /// The agent's hello.
    pub hello: Hello,
}

/// Which agents the host accepts.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) protocol: u32,
    pub(crate) host_build: String,
    pub(crate) expected_build: String,
}

impl Identity {
    /// Whether the agent is the one that belongs to this host.
    pub(crate) fn check(&self, hello: &Hello) -> Result<(), ChannelError> {
        if hello.protocol == self.protocol && hello.build == self.expected_build {
            return Ok(());
        }
        Err(ChannelError::Mismatch {
            agent_protocol: hello.protocol,
            agent_build: printable(&hello.build),
            host_protocol: self.protocol,
            host_build: self.host_build.clone(),
        })
    }
}

/// What a guest calls itself, fit for a message.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|it| !it.is_control())
        .take(80)
        .collect()
}

/// The session of a channel. Pure.
#[derive(Debug)]
pub(crate) struct Session {
    phase: Phase,
    number: u64,
    awaiting: Option<PendingHandshake>,
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
pub(crate) struct PendingHandshake {
    pub(crate) session: u64,
    pub(crate) first: Option<FirstRequest>,
    pub(crate) answer: oneshot::Sender<Result<OpenSession, ChannelError>>,
}

/// Makes the request to the agent that precedes all others of a session.
pub(crate) type FirstRequest = Box<dyn FnOnce() -> AgentOp + Send>;

/// A session that has been opened.
#[derive(Debug)]
pub(crate) struct OpenSession {
    pub(crate) hello: Hello,
    /// The call of the [`FirstRequest`].
    pub(crate) first: Option<Arc<CallState>>,
}

impl Session {
    /// No session yet; `announced`: the agent has announced itself.
    pub(crate) fn new(announced: bool) -> Self {
        Self {
            phase: Phase::Over(Arc::new(ChannelError::NotEstablished)),
            number: 0,
            awaiting: None,
            announced,
            stale_bytes: false,
        }
    }

    /// The session of a checkpoint.
    pub(crate) fn resumed(number: u64) -> Self {
        Self {
            phase: Phase::Open,
            number,
            ..Self::new(false)
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.phase, Phase::Dead(_))
    }

    /// Whether it ended with a violation, and no new one is being opened.
    pub(crate) fn is_violated(&self) -> bool {
        matches!(&self.phase, Phase::Over(reason) if matches!(**reason, ChannelError::Violation(_)))
    }

    /// Why calls fail now; `None` while they do not.
    pub(crate) fn reason(&self) -> Option<&Arc<ChannelError>> {
        match &self.phase {
            Phase::Open => None,
            Phase::Over(reason) | Phase::Dead(reason) => Some(reason),
        }
    }

    /// An error unless calls run.
    pub(crate) fn check(&self) -> Result<(), CallError> {
        let reason = self.reason().cloned();
        reason.map_or(Ok(()), |reason| Err(CallError::Channel(reason)))
    }

    /// Whether the agent announced itself since the session was opened.
    pub(crate) fn announced(&self) -> bool {
        self.announced
    }

    /// The agent announces itself.
    pub(crate) fn announce(&mut self) {
        self.announced = true;
    }

    /// The guest reboots: what was read and not decoded is of the guest before, unless the new one has
    /// announced itself already.
    pub(crate) fn expect_reboot(&mut self) {
        self.stale_bytes |= !self.announced;
    }

    /// Whether what was read so far should be forgotten; reported once.
    pub(crate) fn take_stale_bytes(&mut self) -> bool {
        std::mem::take(&mut self.stale_bytes)
    }

    /// Waits for the hello of a session; on a dead channel the wait ends at once.
    pub(crate) fn await_hello(&mut self, awaiting: PendingHandshake) {
        let dead = match &self.phase {
            Phase::Dead(reason) => Some(ChannelError::clone(reason)),
            Phase::Open | Phase::Over(_) => None,
        };
        self.awaiting = Some(awaiting);
        if let Some(reason) = dead {
            self.answer(Err(reason));
        }
    }

    /// Whether the hello of that session is awaited.
    pub(crate) fn awaits(&self, number: u64) -> bool {
        let awaiting = self.awaiting.as_ref();
        awaiting.is_some_and(|awaiting| awaiting.session == number)
    }

    /// Stops waiting for a hello.
    pub(crate) fn stop_awaiting(&mut self) {
        self.awaiting = None;
    }

    /// Answers the handshake that waits for a hello, if one does.
    pub(crate) fn answer(&mut self, result: Result<OpenSession, ChannelError>) {
        if let Some(awaiting) = self.awaiting.take() {
            // The receiver may have been dropped.
            let _ = awaiting.answer.send(result);
        }
    }

    /// Whether a hello of that session would open it: it is awaited, and no session is open.
    pub(crate) fn may_open(&self, number: u64) -> bool {
        self.awaits(number) && matches!(self.phase, Phase::Over(_))
    }

    /// Opens it; returns the request that precedes all others. The handshake waits until it is
    /// [answered](Session::answer).
    pub(crate) fn open(&mut self, number: u64) -> Option<FirstRequest> {
        self.phase = Phase::Open;
        self.number = number;
        self.announced = false;
        self.awaiting.as_mut()?.first.take()
    }

    /// Ends it; returns the reason that holds, which is an earlier one if the channel is dead.
    pub(crate) fn end(&mut self, reason: ChannelError) -> Arc<ChannelError> {
        if let Phase::Dead(reason) = &self.phase {
            return Arc::clone(reason);
        }
        let reason = Arc::new(reason);
        self.phase = Phase::Over(Arc::clone(&reason));
        reason
    }

    /// Ends it permanently.
    pub(crate) fn die(&mut self, reason: Arc<ChannelError>) {
        self.answer(Err(ChannelError::clone(&reason)));
        self.phase = Phase::Dead(reason);
    }
}

impl fmt::Debug for PendingHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingHandshake")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
