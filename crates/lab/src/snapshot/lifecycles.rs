//! The life-cycle locks of several VMs, always taken in one order, so that two calls that save or restore
//! the same VMs do not deadlock.

use crate::vm::{Lifecycle, Vm};

/// Like [`lock_all`], for a restore: each VM's machine is about to be ended.
pub(crate) async fn lock_all_to_end<'a>(vms: impl IntoIterator<Item = &'a Vm>) -> Vec<Lifecycle> {
    let vms: Vec<&Vm> = vms.into_iter().collect();
    for vm in &vms {
        vm.0.give_up.send_modify(|count| *count += 1);
    }
    lock_all(vms).await
}

/// Takes the locks of all VMs, and returns them in the order of `vms`.
pub(crate) async fn lock_all<'a>(vms: impl IntoIterator<Item = &'a Vm>) -> Vec<Lifecycle> {
    let mut vms: Vec<(usize, &Vm)> = vms.into_iter().enumerate().collect();
    vms.sort_by_key(|(_, vm)| vm.id());
    let mut held = Vec::new();
    for (place, vm) in vms {
        held.push((place, vm.0.lifecycle().await));
    }
    held.sort_by_key(|(place, _)| *place);
    held.into_iter().map(|(_, lock)| lock).collect()
}
