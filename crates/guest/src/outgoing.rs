//! A request as it is sent, with what the host must remember of it.

use crate::kind::CallKind;
use crate::reply_limits::ReplyLimits;
use provium_protocol::{AgentOp, Lane, Op, codec};

/// A request that has not been sent.
pub(crate) struct OutgoingRequest {
    pub(crate) lane: Lane,
    pub(crate) kind: CallKind,
    pub(crate) limits: ReplyLimits,
    pub(crate) message: Vec<u8>,
}

impl OutgoingRequest {
    /// A request to the VM or a worker.
    pub(crate) fn to_lane(lane: Lane, op: &Op) -> Self {
        Self {
            lane,
            kind: CallKind::of(op),
            limits: ReplyLimits::of(op),
            message: codec::encode(op),
        }
    }

    /// A request to the agent itself.
    pub(crate) fn to_agent(op: &AgentOp) -> Self {
        Self {
            lane: Lane::AGENT,
            kind: CallKind::Other,
            limits: ReplyLimits::plain(),
            message: codec::encode(op),
        }
    }

    /// A request that an earlier channel has sent.
    pub(crate) fn sent_before(lane: Lane, kind: CallKind, limits: ReplyLimits) -> Self {
        Self {
            lane,
            kind,
            limits,
            message: Vec::new(),
        }
    }
}
