//! The NICs of a VM when it is booted, in its snapshots, and when it is restored.

use crate::lock::lock;
use crate::network::{AttachedVm, MemberEntry, RestoringBridge, coming};
use crate::save::SavedNic;
use crate::vm::handle::Vm;
use crate::vm::nic::list::{VmNic, free_index};
use crate::vm::state::VmCore;
use provium_vmm::NicSlot;
use std::sync::{Arc, Weak};

impl VmCore {
    /// Gives it these NICs in place of its own, after a restore.
    pub(crate) fn set_nics(&self, mut nics: Vec<VmNic>) {
        for nic in &mut nics {
            nic.coming = None;
        }
        *lock(&self.nics) = nics;
    }
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
            Some((restored, member))
        });
        let nic = match restored {
            Some((restored, member)) => VmNic {
                bridge: restored.bridge.clone(),
                port: member.port,
                addresses: restored.bridge.0.addresses_of(member),
                coming: Some(Arc::new(coming(restored, bridges))),
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
