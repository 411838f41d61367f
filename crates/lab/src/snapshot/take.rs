//! Taking snapshots, of one VM or of several at one instant.

use crate::apart::apart;
use crate::environment::EnvironmentError;
use crate::error::LabError;
use crate::lock::lock;
use crate::network::{Bridge, FrozenBridges, SavedBridge};
use crate::resource::ResourceId;
use crate::save::{FreezeError, FrozenVm, QUIESCE_LIMIT, SavedGuest, SavedVm, VmManifest};
use crate::snapshot::folder::{SnapshotDir, StagedDir, VM_SIGN};
use crate::snapshot::lifecycles::lock_all;
use crate::snapshot::vm::{Inner, Origin, Snapshot};
use crate::vm::{RunningMachine, Vm, VmState, save_disks, saved_nics};
use camino::Utf8Path;
use futures_util::future::join_all;
use provium_vmm::{SaveForm, VmmError};
use std::sync::Arc;
use tokio::time::timeout;

impl Vm {
    /// A snapshot of it, in `place` or, without one, in the cache. The VM keeps running.
    ///
    /// # Errors
    /// Unless it is booted and no stream reads it; when the host cannot write it.
    pub async fn snapshot(&self, place: Option<&Utf8Path>) -> Result<Snapshot, LabError> {
        let vm = self.clone();
        let saved = match place.map(Utf8Path::to_owned) {
            None => {
                let taken = apart(self.0.environment().runtime(), async move {
                    let folder = cache_folder(&vm)?;
                    let form = vm.0.file.form_in_cache();
                    take_one(&vm, folder, form).await
                });
                taken.await
            }
            Some(place) => {
                let taken = apart(self.0.environment().runtime(), async move {
                    let call = format!("snapshot({place:?})");
                    let failed = |error| LabError::host(vm.subject(), &call, error);
                    let named = StagedDir::new(&place, VM_SIGN).map_err(failed)?;
                    let within = SnapshotDir::draft_of(&named);
                    let taken = take_one(&vm, within, SaveForm::Whole).await?;
                    let seal = named.seal().await.map_err(failed)?;
                    Ok((named, seal, taken))
                });
                let installed = |(named, seal, taken): (StagedDir, _, Snapshot)| {
                    let installed = named.install(seal);
                    let seal = installed
                        .map_err(|error| LabError::host(self.subject(), "snapshot()", error))?;
                    Ok(taken.moved_to(seal.folder(), &seal))
                };
                taken.await.map(|taken| taken.and_then(installed))
            }
        };
        saved.map_err(|error| LabError::host(self.subject(), "snapshot()", error))?
    }
}

/// A new folder in the cache.
pub(crate) fn cache_folder(vm: &Vm) -> Result<SnapshotDir, LabError> {
    let host = vm.0.environment().host();
    let host = host.ok_or_else(|| vm.0.host_error(EnvironmentError::NoMachines))?;
    let draft = host.snapshots.staging_folder();
    let draft = draft.map_err(|error| LabError::host(vm.subject(), "snapshot()", error))?;
    let draft = Arc::new(draft);
    Ok(SnapshotDir::cached(&draft, draft.path()))
}

pub(crate) async fn take_one(
    vm: &Vm,
    folder: SnapshotDir,
    form: SaveForm,
) -> Result<Snapshot, LabError> {
    let mut taken = take_all(
        vec![(vm.clone(), folder)],
        Vec::new(),
        form,
        AfterSave::Thaw,
    )
    .await?;
    taken
        .vms
        .pop()
        .ok_or_else(|| LabError::invalid(vm.subject(), "snapshot()", "nothing was saved"))
}

/// What happens to VMs after they have been saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterSave {
    Thaw,
    /// They stay paused, and the caller switches them off.
    StayPaused,
}

/// What was saved at one instant.
pub(crate) struct TakenSnapshots {
    /// In the order of the VMs.
    pub(crate) vms: Vec<Snapshot>,
    /// In the order of the bridges.
    pub(crate) bridges: Vec<SavedBridge>,
}

/// Saves VMs, each into its folder, and bridges at one instant.
pub(crate) async fn take_all(
    vms: Vec<(Vm, SnapshotDir)>,
    bridges: Vec<Bridge>,
    form: SaveForm,
    after: AfterSave,
) -> Result<TakenSnapshots, LabError> {
    let (vms, folders): (Vec<Vm>, Vec<SnapshotDir>) = vms.into_iter().unzip();
    let _lifecycles = lock_all(&vms).await;
    let mut running = Vec::new();
    for vm in &vms {
        check_quiescent(vm, "snapshot()")?;
        running.push(vm.0.running_in("snapshot()", VmState::Booted, "booted")?);
    }
    let freezing = running.iter().zip(&vms);
    let freezing = freezing.map(|(running, vm)| freeze(vm, running));
    let (frozen, failures): (Vec<_>, Vec<_>) = join_all(freezing)
        .await
        .into_iter()
        .partition(Result::is_ok);
    let frozen: Vec<_> = frozen.into_iter().flatten().collect();
    if let Some(Err(failure)) = failures.into_iter().next() {
        // None is saved unless all can be.
        let _ = thaw(frozen).await;
        return Err(failure);
    }
    // What the guests have sent so far is on a bridge.
    let mut bridges = match FrozenBridges::freeze(bridges).await {
        Ok(bridges) => bridges,
        Err(error) => {
            let _ = thaw(frozen).await;
            return Err(error);
        }
    };
    let saving = vms.iter().zip(folders).zip(&running).zip(&frozen);
    let saved = join_all(saving.map(|(((vm, folder), running), (frozen, image))| {
        save(vm, folder, running, frozen, image, form.clone())
    }));
    let saved: Result<Vec<Snapshot>, LabError> = saved.await.into_iter().collect();
    let saved_bridges = std::mem::take(&mut bridges.saved);
    drop(bridges);
    if after == AfterSave::StayPaused && saved.is_ok() {
        frozen.into_iter().for_each(|(vm, _)| vm.stay_paused());
    } else {
        thaw(frozen).await?;
    }
    Ok(TakenSnapshots {
        vms: saved?,
        bridges: saved_bridges,
    })
}

/// Thaws all of them, also if one fails; returns the first failure.
pub(super) async fn thaw(frozen: Vec<(FrozenVm<'_>, String)>) -> Result<(), LabError> {
    let thawing = frozen.into_iter().map(|(vm, _)| async move {
        let name = vm.name().to_owned();
        let thawed = vm.thaw().await;
        thawed.map_err(|error| LabError::host(format!("vm `{name}`"), "snapshot()", error))
    });
    join_all(thawing).await.into_iter().collect()
}

/// A frozen VM, and the identity of its image.
pub(super) async fn freeze<'a>(
    vm: &Vm,
    running: &'a RunningMachine,
) -> Result<(FrozenVm<'a>, String), LabError> {
    let image = vm.0.environment().image(&running.profile).await;
    let image = image.map_err(|error| vm.0.host_error(error))?;
    let limit = vm.0.environment().scale_timeout(QUIESCE_LIMIT);
    let frozen = FrozenVm::freeze(&running.machine, &running.channel, &running.served_disks);
    match timeout(limit, frozen).await {
        Ok(Ok(frozen)) => Ok((frozen, image.id.clone())),
        Err(_) => Err(LabError::TimedOut {
            subject: vm.subject(),
            call: "snapshot()".to_owned(),
            after: limit,
            note: "; its agent did not quiesce".to_owned(),
        }),
        Ok(Err(suspended @ FreezeError::Suspended)) => {
            let why = suspended.to_string();
            Err(LabError::invalid(vm.subject(), "snapshot()", why))
        }
        Ok(Err(error)) => {
            let error = LabError::host(vm.subject(), "snapshot()", error);
            Err(vm.0.explain("snapshot()", error).await)
        }
    }
}

pub(super) async fn save(
    vm: &Vm,
    folder: SnapshotDir,
    running: &RunningMachine,
    frozen: &FrozenVm<'_>,
    image: &str,
    form: SaveForm,
) -> Result<Snapshot, LabError> {
    let origin = Origin {
        vm: vm.id(),
        past: vm.0.history(),
        processes: vm.0.handles.processes.marks(),
        open_files: vm.activity().files,
    };
    let options = lock(&vm.0.booted_with).clone();
    let nics = saved_nics(vm);
    let disks = save_disks(vm, "snapshot()", vm.0.disks.list(), folder.path()).await?;
    let host = vm.0.environment().host();
    let host = host.ok_or_else(|| vm.0.host_error(EnvironmentError::NoMachines))?;
    let manifest = |cut| {
        let guest = SavedGuest {
            name: vm.name(),
            profile: &running.profile,
            image,
            processor: &host.processor,
        };
        VmManifest::new(&guest, Some(options), nics, disks, cut)
    };
    // A base that may vanish cannot be used.
    let base = running.base.as_ref().filter(|base| base.is_kept());
    let form = if base.is_some() {
        form
    } else {
        SaveForm::Whole
    };
    if let Err(error) = frozen.save(folder.path(), form, manifest).await {
        let is_of_machine = matches!(error, FreezeError::Machine(VmmError::Control { .. }));
        let error = LabError::host(vm.subject(), "snapshot()", error);
        return Err(match is_of_machine {
            // A QEMU that ends closes its control socket first: its exit status says more.
            true => vm.0.explain("snapshot()", error).await,
            false => error,
        });
    }
    let saved = SavedVm::on_base(folder.as_base(), base);
    let saved = saved.map_err(|error| LabError::host(vm.subject(), "snapshot()", error))?;
    Ok(Snapshot(Arc::new(Inner {
        id: ResourceId::next(),
        folder,
        saved,
        origin: Some(origin),
    })))
}

/// An error while streams read it: what they have not read yet would be lost.
pub(crate) fn check_quiescent(vm: &Vm, call: &str) -> Result<(), LabError> {
    let open = vm.0.open_streams.list();
    if open.is_empty() {
        return Ok(());
    }
    let why = format!(
        "{} stream(s) are open; close them first:\n  {}",
        open.len(),
        open.join("\n  ")
    );
    Err(LabError::invalid(vm.subject(), call, why))
}
