//! The disks of a guest that has booted again on the machine that it had: connections that were broken are made again,
//! and the guest sees its disks as they are.

use crate::disk::{DiskId, VmDisk};
use crate::error::LabError;
use crate::vm::disk::guest_view::{GuestView, settle_disks};
use crate::vm::disk::setup::{DiskSetupError, insert_disk};
use crate::vm::handle::Vm;
use crate::vm::running::RunningMachine;

/// Connects QEMU again to the disks whose connections were broken, which it does not do by itself; which they were.
pub(crate) async fn connect_lost_disks(
    vm: &Vm,
    running: &RunningMachine,
) -> Result<Vec<DiskId>, DiskSetupError> {
    let mut connected = Vec::new();
    for disk in vm.0.disks.list() {
        let slot = disk
            .slot
            .filter(|slot| running.served_disks.lost_connection(*slot).is_some());
        if slot.is_some() {
            insert_disk(&running.machine, &running.served_disks, &disk).await?;
            connected.push(disk.id);
        }
    }
    Ok(connected)
}

/// Makes a guest that has booted again, on the machine that it had, see its disks.
pub(crate) async fn settle_again(vm: &Vm, running: &RunningMachine) -> Result<(), LabError> {
    let failed = |error| LabError::host(vm.subject(), "reset()", error);
    let mut disks = vm.0.disks.list();
    if disks.is_empty() {
        return Ok(());
    }
    let connected = connect_lost_disks(vm, running).await.map_err(failed)?;
    let found = |disk: &VmDisk| match connected.contains(&disk.id) {
        true => GuestView::Stale,
        false => GuestView::Current,
    };
    let settled = settle_disks(&running.channel, &mut disks, found).await;
    settled.map_err(|error| failed(error.into()))?;
    vm.0.disks.set(disks);
    Ok(())
}
