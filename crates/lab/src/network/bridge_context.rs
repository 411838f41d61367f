//! What a guest on a bridge sees of it: names of members, and routes to elsewhere.

use crate::network::bridge::Bridge;
use crate::network::member::Member;
use crate::network::saved::RestoringBridge;
use crate::network::subnet::Subnet;

/// What a bridge gives a guest: names, and routes to elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct BridgeContext {
    /// The members, whose names the guest knows.
    pub(crate) members: Vec<Member>,
    /// The subnets that it reaches through the router.
    pub(crate) routes: Vec<Subnet>,
    /// Whether it reaches the network of the host.
    pub(crate) has_uplink: bool,
}

impl BridgeContext {
    /// Those of a bridge as it is.
    pub(crate) fn of(bridge: &Bridge) -> Self {
        let entries = bridge.0.entries().into_iter();
        Self {
            members: entries.map(|entry| entry.member).collect(),
            routes: bridge.router().routed_subnets(),
            has_uplink: bridge.has_uplink(),
        }
    }
}

/// Those of a bridge that is restored together with `all`.
pub(crate) fn coming(bridge: &RestoringBridge, all: &[RestoringBridge]) -> BridgeContext {
    let saved = &bridge.saved;
    let routes = saved.routes.iter().filter_map(|name| {
        let other = all.iter().find(|other| other.saved.name == *name)?;
        Some(other.saved.subnet)
    });
    BridgeContext {
        members: saved.members.clone(),
        routes: routes.collect(),
        has_uplink: saved.has_uplink,
    }
}
