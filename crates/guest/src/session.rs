//! What host and agent are to each other in a session: who announced itself, whom the host takes for its
//! own, which answer is awaited.

use crate::cell::Cell;
use crate::error::ChannelError;
use provium_protocol::{AgentOp, Hello};
use std::fmt;
use std::sync::Arc;
use tokio::sync::oneshot;

/// An agent that made itself known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Counts the announcements of a channel, from 1; a number over 1 is a reboot.
    pub number: u64,
    /// What the agent said.
    pub hello: Hello,
}

/// Whom the host takes for its own.
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
    pub(crate) first: Option<Arc<Cell>>,
}

impl fmt::Debug for Awaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awaiting")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// What a guest calls itself, fit for a message.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|it| !it.is_control())
        .take(80)
        .collect()
}
