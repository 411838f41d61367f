//! The state of a quiesced channel.
//!
//! A [`ChannelCheckpoint`] is the host's half of the channel. It is stored with the saved guest, and
//! [`Channel::resume`](crate::Channel::resume) makes a channel from it. A call that was open is open in
//! the restored guest, too. It is abandoned there: its output is discarded, so that the call does not
//! wait for credit, until it is [reattached](crate::Command::reattach).
//!
//! Messages that are queued here and not sent are not part of a checkpoint: the restored guest never
//! gets them.

use crate::capture::CaptureCheckpoint;
use crate::reply_limits::ReplyLimits;
use provium_protocol::{CallId, Lane};
use serde::{Deserialize, Serialize};

/// The host's half of a quiesced channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelCheckpoint {
    pub(crate) session: u64,
    /// Index of the machine's byte stream that the channel uses.
    pub(crate) transport: usize,
    pub(crate) last_id: u32,
    pub(crate) calls: Vec<CallCheckpoint>,
}

/// A call that was open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallCheckpoint {
    pub(crate) id: CallId,
    pub(crate) lane: Lane,
    pub(crate) limits: ReplyLimits,
    /// Bytes that the host may still send on the input stream.
    pub(crate) credit: u64,
    pub(crate) input_finished: bool,
    pub(crate) outputs: [OutputCheckpoint; 2],
}

/// One of its output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputCheckpoint {
    /// Bytes that the guest may still send, as far as it knows.
    pub(crate) window: u32,
    /// Bytes that the guest has sent and has not been given new credit for.
    pub(crate) pending_grant: u32,
    pub(crate) ended: bool,
}

impl ChannelCheckpoint {
    /// Index of the byte stream in use, of those given to
    /// [`Channel::establish`](crate::Channel::establish).
    pub fn transport(&self) -> usize {
        self.transport
    }
}

/// A command in a checkpoint, with the output that was captured until then.
#[derive(Debug, Clone)]
pub struct CommandCheckpoint {
    pub(crate) call: CallId,
    pub(crate) pid: Option<u32>,
    pub(crate) outputs: [CaptureCheckpoint; 2],
}
