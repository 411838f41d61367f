//! Saves VMs for a person who looks at them later: as many as can be saved, whatever the test has open.

use crate::error::LabError;
use crate::snapshot::lifecycles::lock_all;
use crate::snapshot::take::{cache_folder, freeze, save, thaw};
use crate::snapshot::vm::Snapshot;
use crate::vm::{Vm, VmState};
use futures_util::future::join_all;
use provium_vmm::SaveForm;

/// Saves those VMs that can be saved, all at one instant, each whole and in a folder of the cache; the
/// others have the reason. They continue.
///
/// Unlike a test's own snapshot this one allows open streams: what they have not read is lost in the saved
/// VM, where nothing reads them.
pub(crate) async fn save_each(vms: &[Vm]) -> Vec<Result<Snapshot, LabError>> {
    let _lifecycles = lock_all(vms).await;
    let running = vms
        .iter()
        .map(|vm| vm.0.running_in("snapshot()", VmState::Booted, "booted"));
    let running: Vec<_> = running.collect();
    let freezing = vms.iter().zip(&running).map(|(vm, running)| async move {
        let running = running.as_ref().map_err(Clone::clone)?;
        Ok::<_, LabError>((running, freeze(vm, running).await?))
    });
    let frozen = join_all(freezing).await;
    let saving = vms.iter().zip(&frozen).map(|(vm, frozen)| async move {
        let (running, (frozen, image)) = frozen.as_ref().map_err(Clone::clone)?;
        let folder = cache_folder(vm)?;
        save(vm, folder, running, frozen, image, SaveForm::Whole).await
    });
    let saved = join_all(saving).await;
    let frozen = frozen.into_iter().flatten().map(|(_, frozen)| frozen);
    // A VM that cannot be resumed is reported by the test's next call to it.
    let _ = thaw(frozen.collect()).await;
    saved
}
