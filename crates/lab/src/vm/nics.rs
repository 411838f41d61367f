//! The NICs of a VM: which bridges it is attached to, whether or not it runs.

use crate::lock::lock;
use crate::network::{Bridge, NicAddresses};
use crate::resource::ResourceId;
use crate::vm::handle::Vm;
use provium_switch::PortId;
use provium_vmm::NicSlot;
use std::sync::Mutex;

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
}

/// The NICs of a VM, in the order of their attachment.
pub(crate) type VmNics = Mutex<Vec<VmNic>>;

impl VmNic {
    /// The name of its interface in the guest.
    pub(crate) fn interface(&self) -> String {
        format!("eth{}", self.index)
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

/// The NICs of a VM that is booted: in the first slots, in their order, so that all machines with as many NICs have one
/// template.
pub(crate) fn boot_nics(vm: &Vm) -> Vec<VmNic> {
    let mut nics = lock(&vm.0.nics).clone();
    for (number, nic) in nics.iter_mut().enumerate() {
        nic.slot = NicSlot::new(number);
    }
    nics
}
