//! The disks of a VM in its snapshots, and when it is restored.

use crate::disk::{SavedVmDisk, VmDisk};
use crate::error::LabError;
use crate::vm::handle::Vm;
use camino::Utf8Path;

/// Saves the disks of a VM in a folder. No machine may write to them meanwhile.
pub(crate) async fn save_disks(
    vm: &Vm,
    call: &str,
    disks: Vec<VmDisk>,
    folder: &Utf8Path,
) -> Result<Vec<SavedVmDisk>, LabError> {
    if disks.is_empty() {
        return Ok(Vec::new());
    }
    let folder = folder.to_owned();
    let saving = tokio::task::spawn_blocking(move || {
        // In a snapshot of a lab, the part of a VM does not exist yet.
        fs_err::create_dir_all(&folder)?;
        let numbered = disks.iter().enumerate();
        let saved = numbered.map(|(number, disk)| SavedVmDisk::save(disk, &folder, number));
        saved.collect::<Result<Vec<_>, _>>()
    });
    match saving.await {
        Ok(saved) => saved.map_err(|error| LabError::host(vm.subject(), call, error)),
        Err(error) => Err(LabError::host(vm.subject(), call, error)),
    }
}

/// The disks that a VM has when it is restored: those that were saved in `folder`, and no others.
pub(crate) fn restored_disks(
    vm: &Vm,
    saved: &[SavedVmDisk],
    folder: &Utf8Path,
) -> Result<Vec<VmDisk>, LabError> {
    let call = "restore()";
    let restore = |disk: &SavedVmDisk| {
        let restored = vm.0.disk_content().restore(disk, folder);
        let restored =
            restored.map_err(|error| vm.0.disk_content().error(call, &disk.id, error))?;
        continue_log(vm, &restored);
        Ok(restored)
    };
    saved.iter().map(restore).collect()
}

/// Copies of the disks of a VM that is off, for a VM that takes over its present state.
pub(crate) fn forked_disks(vm: &Vm, disks: &[VmDisk]) -> Result<Vec<VmDisk>, LabError> {
    let call = "restore()";
    let fork = |disk: &VmDisk| {
        let volume = vm.0.disk_content().fork(disk);
        let volume = volume.map_err(|error| vm.0.disk_content().error(call, &disk.id, error))?;
        let (slot, node) = (None, None);
        let forked = VmDisk {
            volume,
            slot,
            node,
            ..disk.clone()
        };
        continue_log(vm, &forked);
        Ok(forked)
    };
    disks.iter().map(fork).collect()
}

/// Marks of the disk that a restored one replaces are not marks of the restored one.
fn continue_log(vm: &Vm, restored: &VmDisk) {
    if let Some(previous) = vm.0.disks.find(restored.id.as_str()) {
        restored.volume.disk().number_after(previous.volume.disk());
    }
}
