//! The NICs of a VM: which bridges it is attached to, whether or not it runs.

use crate::network::{Bridge, BridgeContext, NicAddresses};
use crate::resource::ResourceId;
use provium_switch::PortId;
use provium_vmm::NicSlot;
use std::sync::{Arc, Mutex};

/// A NIC of a VM, which is attached to a bridge.
#[derive(Debug, Clone)]
pub(crate) struct VmNic {
    pub(crate) bridge: Bridge,
    pub(crate) port: PortId,
    pub(crate) addresses: NicAddresses,
    /// The guest calls it `eth` and this number.
    pub(crate) index: usize,
    /// Its place in the machine; `None`: the machine does not have it (yet).
    pub(crate) slot: Option<NicSlot>,
    /// Whether its link is connected.
    pub(crate) is_connected: bool,
    /// What the bridge is about to be, while it is being restored; `None`: it is as it is.
    pub(crate) coming: Option<Arc<BridgeContext>>,
}

/// The NICs of a VM, in the order of their attachment.
pub(crate) type VmNics = Mutex<Vec<VmNic>>;

impl VmNic {
    /// The name of its interface in the guest.
    pub(crate) fn interface(&self) -> String {
        format!("eth{}", self.index)
    }

    /// What its bridge gives the guest.
    pub(crate) fn bridge_context(&self) -> BridgeContext {
        match &self.coming {
            Some(coming) => BridgeContext::clone(coming),
            None => BridgeContext::of(&self.bridge),
        }
    }

    pub(crate) fn is_on(&self, bridge: ResourceId) -> bool {
        self.bridge.id() == bridge
    }
}

/// The smallest number that no NIC has.
pub(crate) fn free_index(nics: &[VmNic]) -> usize {
    (0..)
        .find(|index| nics.iter().all(|nic| nic.index != *index))
        .unwrap_or(nics.len())
}
