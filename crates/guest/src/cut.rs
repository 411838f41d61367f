//! What a channel is at a cut.
//!
//! A [`Cut`] is the host's half of the channel at that moment. Whoever copies the guest keeps it with
//! the copy. A call that was open then is open in the copy, too: as an orphan, whose output is let go
//! so that it never stands still, until somebody [takes it up](crate::LaneHandle::take_up).
//!
//! What has been queued here and not gone out is no part of a cut: for the copy it was never said.

use crate::allowance::Allowance;
use crate::capture::CaptureMark;
use provium_protocol::{CallId, Lane};
use serde::{Deserialize, Serialize};

/// The host's half of a channel at a cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    pub(crate) session: u64,
    /// Which of the machine's streams it is.
    pub(crate) transport: usize,
    pub(crate) last_id: u32,
    pub(crate) calls: Vec<CallCut>,
}

/// A call that was open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallCut {
    pub(crate) id: CallId,
    pub(crate) lane: Lane,
    pub(crate) allowance: Allowance,
    /// What the guest still takes on the input channel.
    pub(crate) credit: u64,
    pub(crate) input_finished: bool,
    pub(crate) outputs: [OutputCut; 2],
}

/// An output channel of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputCut {
    /// What the guest may still send, as far as it knows.
    pub(crate) window: u32,
    /// What it sent and has not been granted anew.
    pub(crate) owed: u32,
    pub(crate) ended: bool,
}

impl Cut {
    /// Which of the streams given to [`establish`](crate::Channel::establish) is in use.
    pub fn transport(&self) -> usize {
        self.transport
    }
}

/// What it takes to hold a command again after its guest was put back to a cut.
#[derive(Debug, Clone)]
pub struct CommandMark {
    pub(crate) call: CallId,
    pub(crate) pid: Option<u32>,
    pub(crate) outputs: [CaptureMark; 2],
}
