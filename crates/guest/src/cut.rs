//! A channel at a cut, and another one that goes on from there.
//!
//! ```text
//! quiesce: no new words go out; what has begun goes on; then `Quiesce`
//!    ▼ reply: no byte is under way, the agent is silent
//! Quiet ── cut ──▶ Cut ── resume, on another stream ──▶ Channel: the calls that were open are open
//!    ▼ dropped
//! everything goes on
//! ```
//!
//! A [`Cut`] is the host's half of the channel at that moment. Whoever copies the guest keeps it with
//! the copy. A call that was open then is open in the copy, too: as an orphan, whose output is let go
//! so that it never stands still, until somebody [takes it up](crate::LaneHandle::take_up).
//!
//! What has been queued here and not gone out is no part of a cut: for the copy it was never said.

use crate::allowance::Allowance;
use crate::capture::CaptureMark;
use crate::channel::Channel;
use crate::error::CallError;
use crate::shared::Shared;
use provium_protocol::{CallId, Lane};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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
    /// Which of the streams given to [`Channel::establish`] is in use.
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

/// A channel that is silent, both ways. Dropping it lets everything go on.
#[derive(Debug)]
pub struct Quiet {
    channel: Channel,
}

impl Channel {
    /// Brings the channel to a cut. Meanwhile and as long as the [`Quiet`] lives, calls, input and
    /// credit wait; none fails. Dropping the future lets everything go on.
    ///
    /// # Errors
    /// When the session has ended, or another cut is being made.
    pub async fn quiesce(&self) -> Result<Quiet, CallError> {
        let shared = self.shared();
        // From here on a drop lets everything go on, also that of this future.
        let quiet = Quiet {
            channel: self.clone(),
        };
        let call = shared.begin_quiet()?;
        let guard = CallGuard {
            shared,
            call: Arc::clone(&call),
        };
        let reply = call.take_outcome().await;
        drop(guard);
        reply.map(|_| quiet)
    }

    /// Tells the guest who it is.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn renew(&self, renewal: provium_protocol::op::Renewal) -> Result<(), CallError> {
        let op = provium_protocol::Op::Renew(renewal);
        match self.request(Lane::AGENT, &op).await? {
            provium_protocol::Reply::Done => Ok(()),
            _ => Err(CallError::Unexpected("renew")),
        }
    }
}

impl Quiet {
    /// The host's half, now.
    pub fn cut(&self) -> Cut {
        self.channel.shared().cut(self.channel.transport())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.channel.shared().end_quiet();
    }
}

/// Gives the call up if nobody waits for it any more.
struct CallGuard<'a> {
    shared: &'a Shared,
    call: Arc<crate::cell::Cell>,
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        if !self.call.is_over() {
            self.shared.abandon(&self.call);
        }
    }
}
