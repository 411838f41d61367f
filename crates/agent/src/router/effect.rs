//! What the parts of the router want done that is not theirs to do.

use super::configuration_request::ConfigurationRequest;
use crate::failure::OpResult;
use provium_protocol::op::SetIdentity;
use provium_protocol::{CallId, FrameKind, Lane};

/// Applied by the router, in order.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    /// Sends a message to the host.
    Send {
        kind: FrameKind,
        lane: Lane,
        call: CallId,
        message: Vec<u8>,
    },
    /// Sends a call's reply to the host.
    Reply(Lane, CallId, OpResult),
    /// Replies with figures about the guest.
    Stats(CallId),
    /// Sets the identity of the guest, then replies.
    SetIdentity(CallId, SetIdentity),
    /// Carries out a request about the network or disks, which replies.
    Configure(CallId, ConfigurationRequest),
    /// Begins to quiesce, on behalf of this call.
    Quiesce(CallId),
    /// The executor ended in the middle of what it was sending.
    ExecutorEnded,
    /// Holds back output that comes from now on.
    HoldOutput,
    ReleaseOutput,
    /// Keeps all other tasks of the guest from running.
    OccupyCpus,
    YieldCpus,
}
