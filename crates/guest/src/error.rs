//! Errors between the host and a guest's agent.

use provium_protocol::{CallId, ErrorKind, FrameError, FrameKind, WireError};
use std::io;
use std::sync::Arc;

/// Why a channel, or a session on it, came to its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChannelError {
    /// The agent in the guest is not the one that belongs to this executable.
    #[error(
        "the guest's agent speaks protocol {agent_protocol} (build `{agent_build}`), but this \
         provium speaks protocol {host_protocol} (build `{host_build}`): boot the guest with \
         `cold = true`; if its image brings the agent, write that again with `provium agent PATH`"
    )]
    Mismatch {
        /// Protocol version of the agent.
        agent_protocol: u32,
        /// Build of the agent.
        agent_build: String,
        /// Protocol version of the host.
        host_protocol: u32,
        /// Build of the host.
        host_build: String,
    },
    /// The agent's greeting could not be decoded, several times.
    #[error(
        "the greeting of the guest's agent is malformed, or of an incompatible version: boot the guest with \
         `cold = true`"
    )]
    Greeting,
    /// Every transport was closed before an agent announced itself on one.
    #[error("no agent was heard: the machine closed all of its transports")]
    NoAgent,
    /// No session has been agreed on yet.
    #[error("the channel to the guest's agent is not established")]
    NotEstablished,
    /// The agent sent what it may not.
    #[error("the guest's agent broke the protocol")]
    Violation(#[from] Violation),
    /// The machine closed the transport.
    #[error("the machine closed the agent's transport")]
    HungUp,
    /// Reading or writing failed.
    #[error("the agent's transport failed")]
    Io(#[source] Arc<io::Error>),
    /// The agent announced itself again in the middle of a session.
    #[error("the guest was rebooted")]
    Rebooted,
    /// The host started a new session.
    #[error("the session with the guest's agent was ended")]
    SessionOver,
    /// The host closed the channel; the text says why.
    #[error("{0}")]
    ShutDown(String),
}

/// A violation of the protocol by the agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The bytes are not a frame.
    #[error("its bytes are not a frame")]
    Frame(#[from] FrameError),
    /// A frame about a call that is not open.
    #[error("it sent a {0:?} for call {id}, which is not open", id = .1.0)]
    UnknownCall(FrameKind, CallId),
    /// A frame of a kind that only the host sends, or at the wrong time.
    #[error("it sent a {0:?} where none is allowed")]
    WrongKind(FrameKind),
    /// A frame names another lane than the one its call was sent to.
    #[error("it answered call {id} from another lane", id = .0.0)]
    WrongLane(CallId),
    /// Data on the input stream, or past the end of another.
    #[error("it sent data on a stream of call {id} that carries none", id = .0.0)]
    WrongStream(CallId),
    /// More data than it was granted.
    #[error("it sent more data for call {id} than it was granted", id = .0.0)]
    OverWindow(CallId),
    /// A message that is longer than its call can need.
    #[error("it sent a {0:?} that is longer than allowed")]
    TooLong(FrameKind),
    /// A message that does not decode.
    #[error("it sent a {0:?} that cannot be decoded")]
    Unreadable(FrameKind),
    /// More of something than is kept.
    #[error("it sent more {0:?} frames than allowed")]
    Flood(FrameKind),
}

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The guest refused, see the [`ErrorKind`].
    #[error(transparent)]
    Remote(#[from] WireError),
    /// The channel or the session ended under the call.
    #[error(transparent)]
    Channel(#[from] Arc<ChannelError>),
    /// The request is longer than the wire carries.
    #[error("a request of {len} bytes is over the limit of {limit}")]
    RequestTooLarge {
        /// Bytes of the request.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The content is longer than the caller wants to keep.
    #[error("it is longer than {limit} bytes")]
    TooMuch {
        /// Bytes allowed.
        limit: u64,
    },
    /// The reply is not of the kind that the request has.
    #[error("the guest's agent answered `{0}` with a reply of another kind")]
    Unexpected(&'static str),
    /// Fewer or more bytes arrived than the sender has counted.
    #[error("short transfer: received {got} of {said} bytes")]
    Incomplete {
        /// Bytes that the sender counted.
        said: u64,
        /// Bytes that came.
        got: u64,
    },
    /// The input is closed: the call has ended, or the input was finished.
    #[error("the input of the call is closed")]
    InputClosed,
    /// The reply was handed out before.
    #[error("the call's reply was taken already")]
    Taken,
    /// The host's own side of a copy failed.
    #[error("cannot read or write the host's side of the copy")]
    Local(#[source] Arc<io::Error>),
}

impl CallError {
    /// The guest's errno, where the guest's kernel refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Remote(error) if error.kind == ErrorKind::Os => Some(error.errno),
            _ => None,
        }
    }

    /// The kind of failure that the guest reported, if it was the guest.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Remote(error) => Some(error.kind),
            _ => None,
        }
    }

    /// Why the channel or the session ended, where that is the cause.
    pub fn channel(&self) -> Option<&ChannelError> {
        match self {
            Self::Channel(reason) => Some(reason),
            _ => None,
        }
    }
}
