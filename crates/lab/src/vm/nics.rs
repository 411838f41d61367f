//! The NICs of a VM: which bridges it is attached to, whether or not it runs.

use crate::lock::lock;
use crate::network::{AttachedVm, Bridge, MemberEntry, NicAddresses, RestoringBridge};
use crate::resource::ResourceId;
use crate::save::SavedNic;
use crate::vm::handle::Vm;
use crate::vm::state::VmCore;
use provium_switch::PortId;
use provium_vmm::NicSlot;
use std::sync::{Arc, Mutex, Weak};

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

/// The NICs of a VM, for a snapshot.
pub(crate) fn saved_nics(vm: &Vm) -> Vec<SavedNic> {
    let nics = lock(&vm.0.nics);
    let saved = nics.iter().map(|nic| SavedNic {
        bridge: nic.bridge.name().to_owned(),
        index: nic.index,
        slot: nic.slot,
        is_connected: nic.is_connected,
    });
    saved.collect()
}

/// The NICs that a VM has when it is restored, with their slots in the saved machine: on the bridges that are restored
/// with it those that it had then, on others those that it has now. A NIC that the saved machine lacks has no slot.
pub(crate) fn restored_nics(
    vm: &Vm,
    saved: &[SavedNic],
    bridges: &[RestoringBridge],
) -> Vec<VmNic> {
    let mut nics = Vec::new();
    let current = lock(&vm.0.nics).clone();
    let current = current.into_iter().filter(|nic| {
        let id = nic.bridge.id();
        bridges.iter().all(|restored| restored.bridge.id() != id)
    });
    let mut current: Vec<VmNic> = current.collect();
    for saved in saved {
        let restored = bridges.iter().find_map(|restored| {
            let is_it = restored.saved.name == saved.bridge;
            let member = is_it.then(|| restored.member(vm.name())).flatten()?;
            Some((&restored.bridge, member))
        });
        let nic = match restored {
            Some((bridge, member)) => VmNic {
                bridge: bridge.clone(),
                port: member.port,
                addresses: bridge.addresses_of(member),
                index: saved.index,
                slot: saved.slot,
                is_connected: saved.is_connected,
            },
            None => {
                let at = current
                    .iter()
                    .position(|nic| nic.bridge.name() == saved.bridge);
                let Some(at) = at else { continue };
                let nic = current.remove(at);
                VmNic {
                    index: saved.index,
                    slot: saved.slot,
                    ..nic
                }
            }
        };
        nics.push(nic);
    }
    for nic in current {
        let is_taken = nics.iter().any(|other| other.index == nic.index);
        let index = if is_taken {
            free_index(&nics)
        } else {
            nic.index
        };
        nics.push(VmNic {
            index,
            slot: None,
            ..nic
        });
    }
    nics
}

/// The VMs among the members of a bridge that is restored, with the NICs that they get.
pub(crate) fn member_entries(
    bridge: &RestoringBridge,
    nics: &[(&Vm, &[VmNic])],
) -> Vec<MemberEntry> {
    let mut entries = Vec::new();
    for (vm, nics) in nics {
        let here = |nic: &&VmNic| nic.is_on(bridge.bridge.id());
        if nics.iter().any(|nic| here(&nic))
            && let Some(member) = bridge.member(vm.name())
        {
            let weak: Weak<dyn AttachedVm> = Arc::<VmCore>::downgrade(&vm.0) as _;
            entries.push(MemberEntry {
                member: member.clone(),
                vm: Some((vm.id(), weak)),
            });
        }
    }
    entries
}
