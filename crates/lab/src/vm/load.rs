//! Loads a saved VM for a VM of the lab.

use crate::disk::VmDisk;
use crate::save::{RestoreError, RestoreRequest, RestoredVm, SavedVm};
use crate::vm::handle::Vm;
use crate::vm::modules::modules_of;
use provium_image::GuestImage;

/// What it takes to restore `saved`, whose guest was booted from `image`, with these disks.
pub(crate) fn restore_request(
    saved: &SavedVm,
    image: &GuestImage,
    disks: &[VmDisk],
) -> RestoreRequest {
    RestoreRequest {
        saved: saved.clone(),
        kernel: image.kernel.clone(),
        modules: modules_of(image),
        disks: disks.iter().filter_map(VmDisk::device).collect(),
    }
}

/// The restored VM, which is paused: a warm one if there is one.
pub(crate) async fn load(vm: &Vm, request: &RestoreRequest) -> Result<RestoredVm, RestoreError> {
    let environment = vm.0.environment();
    let host = environment.host().ok_or(RestoreError::NoMachines)?;
    let standby = match environment.warm_pool.take(request) {
        Some(warm) => warm,
        None => request.load(vm.name(), &host.qemu).await?,
    };
    standby.assign(vm.name(), vm.console().log()).await
}
