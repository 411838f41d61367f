//! Attaching VMs to bridges, and detaching them.
//!
//! Both work in every state of a VM. A VM that runs gets its NIC by hot-plug.

use crate::error::LabError;
use crate::lock::lock;
use crate::network::{AttachedVm, Bridge};
use crate::resource::ResourceId;
use crate::vm::handle::Vm;
use crate::vm::nic::list::{VmNic, free_index};
use crate::vm::nic::setup::settle_network;
use crate::vm::state::VmCore;
use futures_util::future::join_all;
use provium_vmm::NicSlot;
use std::sync::{Arc, Weak};

impl Bridge {
    /// Attaches VMs: all of them, or none. A guest that runs has its address when this returns, and the members of
    /// the bridge know the names of all.
    ///
    /// # Errors
    /// When one is attached already or closed, when its name is taken, when it has no slot or the bridge no address
    /// left, or when its guest has no driver.
    pub async fn attach(&self, vms: &[Vm]) -> Result<(), LabError> {
        let (bridge, vms) = (self.clone(), vms.to_vec());
        // To its end, also without its caller: a VM that is half attached could not be used.
        let attached = self
            .0
            .file()
            .environment
            .runtime()
            .spawn(async move { attach(&bridge, &vms).await });
        let attached = attached.await;
        attached.map_err(|error| LabError::host(self.subject(), "attach()", error))?
    }

    /// Detaches VMs. The NIC of a guest that runs is removed when this returns.
    ///
    /// # Errors
    /// When one is not attached; when a guest does not release its NIC.
    pub async fn detach(&self, vms: &[Vm]) -> Result<(), LabError> {
        for vm in vms {
            if self.0.member_of(vm.id()).is_none() {
                let why = format!("vm `{}` is not attached to it", vm.name());
                return Err(self.0.invalid("detach()", why));
            }
        }
        let (bridge, vms) = (self.clone(), vms.to_vec());
        let detached = self.0.file().environment.runtime().spawn(async move {
            let done = detach(&bridge, &vms).await;
            let updated = bridge.update_members(&[]).await;
            done.and(updated)
        });
        let detached = detached.await;
        detached.map_err(|error| LabError::host(self.subject(), "detach()", error))?
    }
}

async fn attach(bridge: &Bridge, vms: &[Vm]) -> Result<(), LabError> {
    let mut added: Vec<Vm> = Vec::new();
    let mut result = Ok(());
    for vm in vms {
        match add(bridge, vm).await {
            Ok(()) => added.push(vm.clone()),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    if result.is_ok() {
        let settling = vms.iter().map(|vm| settle_network(vm, "attach()"));
        result = join_all(settling).await.into_iter().collect();
    }
    if result.is_err() {
        // The first failure is the one that is reported.
        let _ = detach(bridge, &added).await;
        return result;
    }
    let ids: Vec<ResourceId> = vms.iter().map(Vm::id).collect();
    bridge.update_members(&ids).await
}

/// Makes the VM a member, with a NIC that its machine does not have yet.
async fn add(bridge: &Bridge, vm: &Vm) -> Result<(), LabError> {
    let call = "attach()";
    let invalid = |why: String| Err(bridge.0.invalid(call, why));
    let name = vm.name();
    if vm.is_closed() {
        return invalid(format!("vm `{name}` is closed"));
    }
    {
        let nics = lock(&vm.0.nics);
        if nics.iter().any(|nic| nic.is_on(bridge.id())) {
            return invalid(format!("vm `{name}` is attached to it already"));
        }
        if nics.len() == NicSlot::COUNT {
            let count = NicSlot::COUNT;
            return invalid(format!(
                "vm `{name}` has {count} NICs already, and no slot for another one"
            ));
        }
        let overlapping = nics
            .iter()
            .find(|nic| nic.bridge.subnet().overlaps(bridge.subnet()));
        if let Some(nic) = overlapping {
            return invalid(format!(
                "vm `{name}` is attached to {} ({}), whose addresses overlap with {}",
                nic.bridge.subject(),
                nic.bridge.subnet(),
                bridge.subnet()
            ));
        }
    }
    let weak: Weak<dyn AttachedVm> = Arc::<VmCore>::downgrade(&vm.0) as _;
    let member = bridge.0.add_vm(call, name, (vm.id(), weak)).await?;
    let mut nics = lock(&vm.0.nics);
    let nic = VmNic {
        bridge: bridge.clone(),
        port: member.port,
        addresses: bridge.0.addresses_of(&member),
        index: free_index(&nics),
        slot: None,
        is_connected: true,
        coming: None,
    };
    nics.push(nic);
    Ok(())
}

/// Detaches all of them, also if one fails; returns the first failure.
async fn detach(bridge: &Bridge, vms: &[Vm]) -> Result<(), LabError> {
    let detaching = vms.iter().map(|vm| async {
        if let Some(member) = bridge.0.member_of(vm.id()) {
            bridge.0.remove_member("detach()", member.port).await?;
        }
        vm.0.drop_nic(bridge.id());
        settle_network(vm, "detach()").await
    });
    join_all(detaching).await.into_iter().collect()
}

impl VmCore {
    /// Takes the NIC on that bridge from the VM; its machine, if it runs, still has it to be unplugged.
    pub(crate) fn drop_nic(&self, bridge: ResourceId) {
        let mut nics = lock(&self.nics);
        let Some(at) = nics.iter().position(|nic| nic.is_on(bridge)) else {
            return;
        };
        let slot = nics.remove(at).slot;
        let stage = self.stage.borrow();
        if let (Some(slot), Some(running)) = (slot, stage.running()) {
            lock(&running.leaving_nics).push(slot);
        }
    }

    /// Leaves all bridges, since the VM is closed.
    pub(crate) async fn leave_bridges(&self) {
        let nics = std::mem::take(&mut *lock(&self.nics));
        for nic in nics {
            // A switch that has stopped has no members.
            let _ = nic.bridge.0.remove_member("close()", nic.port).await;
        }
    }
}
