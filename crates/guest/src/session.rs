//! Host and agent in a session: which agent announced itself, and which one the host accepts.

use crate::error::ChannelError;
use provium_protocol::Hello;

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

/// What a guest calls itself, fit for a message.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|it| !it.is_control())
        .take(80)
        .collect()
}
