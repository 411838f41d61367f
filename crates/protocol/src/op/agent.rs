//! The operations of the agent itself, which are sent to [`Lane::AGENT`](crate::Lane::AGENT).

use super::disk::{DiskNode, SetDisks};
use super::identity::SetIdentity;
use super::network::{NicCounters, ReadNicCounters, SetNetwork};
use super::request::{Request, request};
use crate::message::GuestStats;
use serde::{Deserialize, Serialize};

/// One request to the agent itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentOp {
    /// See [`Stats`].
    Stats,
    /// See [`Quiesce`].
    Quiesce,
    /// See [`SetIdentity`].
    SetIdentity(SetIdentity),
    /// See [`SetNetwork`].
    SetNetwork(SetNetwork),
    /// See [`ReadNicCounters`].
    ReadNicCounters(ReadNicCounters),
    /// See [`SetDisks`].
    SetDisks(SetDisks),
}

request! {
    AgentOp: "Figures about the guest."
    => Stats -> GuestStats
}
request! {
    AgentOp: "Quiesces the channel: the agent sends the messages it has begun, then the reply, and \
    then no byte until the next frame from the host. The host in turn sends nothing after this request \
    but replies to open guest requests. So no byte is in flight when the reply arrives, and a copy of the \
    guest can continue from here on another byte stream."
    => Quiesce -> ()
}
request! {
    AgentOp: "" => SetIdentity(SetIdentity) -> ()
}
request! {
    AgentOp: "" => SetNetwork(SetNetwork) -> ()
}
request! {
    AgentOp: "" => ReadNicCounters(ReadNicCounters) -> NicCounters
}
request! {
    AgentOp: "" => SetDisks(SetDisks) -> Vec<DiskNode>
}
