//! The snapshot of a lab: all its VMs at one instant, and those of its sub-labs.

use crate::apart::apart;
use crate::disk::{SavedVmDisk, VmDisk};
use crate::environment::EnvironmentError;
use crate::error::LabError;
use crate::graph::lab::{Lab, Member};
use crate::graph::lab_manifest::{BridgeEntry, LabManifest, VmEntry};
use crate::graph::membership::{bridges_below, vms_below};
use crate::lock::lock;
use crate::network::{Bridge, RestoringBridge, resume_bridges};
use crate::resource::{ResourceId, Scope};
use crate::snapshot::folder::{LAB_SIGN, SnapshotDir, StagedDir, open_sealed, restore_current};
use crate::snapshot::lifecycles::lock_all_to_end;
use crate::snapshot::restore::{PreparedRestore, ReplacedMachine, RestoreReason, prepare};
use crate::snapshot::take::{AfterSave, take_all};
use crate::snapshot::vm::Snapshot;
use crate::vm::{
    Vm, member_entries, restored_disks, restored_nics, save_disks, saved_nics, switch_off,
};
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::future::{join_all, try_join_all};
use provium_store::{CacheEntry, Seal, StagingFolder};
use provium_vmm::SaveForm;
use std::fmt;
use std::io;
use std::sync::Arc;

/// A moment of a lab.
#[derive(Clone)]
pub struct LabSnapshot(Arc<Inner>);

struct Inner {
    id: ResourceId,
    name: String,
    folder: SnapshotDir,
    /// In the order of the manifest's booted VMs.
    vms: Vec<Snapshot>,
    manifest: LabManifest,
}

impl LabSnapshot {
    /// Takes a snapshot of all VMs of `lab` and of its sub-labs, in `place` or, without one, in the
    /// cache. They continue.
    ///
    /// # Errors
    /// As for a VM's; a paused VM cannot be saved.
    pub async fn take(
        lab: &Lab,
        scope: &Scope,
        place: Option<&Utf8Path>,
    ) -> Result<Self, LabError> {
        let failed = |error: io::Error| LabError::host(lab.subject(), "snapshot()", error);
        let vms = vms_below(lab, scope);
        let named = place.map(|place| StagedDir::new(place, LAB_SIGN));
        let named = named.transpose().map_err(failed)?;
        let (folder, form) = match &named {
            Some(named) => (SnapshotDir::draft_of(named), SaveForm::Whole),
            None => {
                let draft = Arc::new(staging_folder(lab)?);
                let folder = SnapshotDir::cached(&draft, draft.path());
                (folder, lab.file_context().form_in_cache())
            }
        };
        let content = LabContent::of(vms, bridges_below(lab, scope), &folder).await?;
        let owner = lab.clone();
        let saved = apart(lab.environment().runtime(), async move {
            let snapshot = content.save(&owner, folder, form).await?;
            let sealed = match named {
                Some(named) => {
                    let seal = named.seal().await;
                    let seal =
                        seal.map_err(|error| LabError::host(owner.subject(), "snapshot()", error));
                    Some((named, seal?))
                }
                None => None,
            };
            Ok::<_, LabError>((snapshot, sealed))
        });
        let saved = saved.await;
        let (snapshot, sealed) =
            saved.map_err(|error| LabError::host(lab.subject(), "snapshot()", error))??;
        match sealed {
            Some((named, seal)) => Ok(snapshot.moved_to(&named.install(seal).map_err(failed)?)),
            None => Ok(snapshot),
        }
    }

    /// Makes the VMs of `lab` what they were in the snapshot, all at one instant; those that are missing are
    /// made in `scope`, those that were off are shut down. VMs that the snapshot does not have are
    /// left alone.
    ///
    /// # Errors
    /// As for a VM's; no VM is changed unless all of them can be.
    pub async fn restore(&self, lab: &Lab, scope: &Scope) -> Result<(), LabError> {
        self.restore_on(lab, scope, RestoreReason::Restore).await
    }

    pub(crate) async fn restore_on(
        &self,
        lab: &Lab,
        scope: &Scope,
        occasion: RestoreReason,
    ) -> Result<(), LabError> {
        let snapshot = self.clone();
        let mut bridges = Vec::new();
        for entry in &snapshot.0.manifest.bridges {
            let bridge = bridge_of(lab, scope, entry)?;
            bridges.push(RestoringBridge::new(bridge, entry.saved.clone()).await?);
        }
        let mut pairs = Vec::new();
        let mut saved = snapshot.0.vms.iter().cloned();
        for entry in &snapshot.0.manifest.vms {
            let vm = vm_of(lab, scope, entry)?;
            let from = if entry.folder.is_some() {
                saved.next()
            } else {
                None
            };
            let disks = restored_disks_of(&vm, &snapshot.0.folder, entry)?;
            pairs.push((vm, from, entry.nics.clone(), disks));
        }
        let ready = async move {
            let lifecycles = lock_all_to_end(pairs.iter().map(|(vm, ..)| vm)).await;
            snapshot.0.folder.check(&snapshot.subject()).await?;
            let (mut ready, mut off) = (Vec::new(), Vec::new());
            for ((vm, from, nics, disks), lifecycle) in pairs.iter().zip(lifecycles) {
                match from {
                    Some(from) => ready.push(prepare(vm, lifecycle, from, None, &bridges)),
                    None => {
                        let nics = restored_nics(vm, nics, &bridges);
                        off.push((vm.clone(), nics, disks.clone(), lifecycle));
                    }
                }
            }
            let mut ready = try_join_all(ready).await?;
            try_join_all(ready.iter_mut().map(|ready| ready.wake(occasion))).await?;
            Ok::<_, LabError>((ready, off, bridges))
        };
        let failed = |error| LabError::host(lab.subject(), "restore()", error);
        let ready = apart(lab.environment().runtime(), ready).await;
        let (ready, off, bridges) = ready.map_err(failed)??;
        // As for a VM: a caller that is cancelled before this has the lab as it was.
        let nics_on = ready.iter().map(PreparedRestore::nics);
        let nics_off = off.iter().map(|(vm, nics, ..)| (vm, &nics[..]));
        let nics: Vec<_> = nics_on.chain(nics_off).collect();
        for bridge in &bridges {
            bridge.commit(member_entries(bridge, &nics));
        }
        for (vm, nics, disks, _) in &off {
            vm.0.set_nics(nics.clone());
            vm.0.disks.set(disks.clone());
        }
        let replaced: Vec<_> = ready.into_iter().map(PreparedRestore::commit).collect();
        resume_bridges(&bridges);
        let rest = lab.environment().runtime().spawn(async move {
            join_all(
                off.iter()
                    .map(|(vm, .., lifecycle)| switch_off(vm, lifecycle)),
            )
            .await;
            join_all(replaced.into_iter().map(ReplacedMachine::end)).await;
        });
        rest.await.map_err(failed)
    }

    /// Restores `lab` from the snapshot in a folder, as [`LabSnapshot::restore`]. If another snapshot replaces
    /// the folder meanwhile, the lab is restored from that one.
    ///
    /// # Errors
    /// As for [`LabSnapshot::open`] and [`LabSnapshot::restore`].
    pub async fn restore_folder(path: &Utf8Path, lab: &Lab, scope: &Scope) -> Result<(), LabError> {
        restore_current(path, async || Self::open(path)?.restore(lab, scope).await).await
    }

    /// The snapshot in a folder that [`LabSnapshot::take`] was given, in this run or another.
    ///
    /// # Errors
    /// When the folder holds none that this version can use.
    pub fn open(path: &Utf8Path) -> Result<Self, LabError> {
        open_sealed(path, LAB_SIGN, Self::in_folder)
    }

    /// The snapshot in a part of an entry of the cache.
    pub(crate) fn of_entry(entry: &Arc<CacheEntry>, path: &Utf8Path) -> Result<Self, LabError> {
        Self::in_folder(SnapshotDir::of_entry(entry, path))
    }

    fn in_folder(folder: SnapshotDir) -> Result<Self, LabError> {
        let path = folder.path();
        let subject = format!("snapshot `{path}`");
        let failed = |error: io::Error| LabError::host(subject.clone(), "restore()", error);
        let manifest = LabManifest::read(path).map_err(failed)?;
        let parts = manifest
            .vms
            .iter()
            .filter_map(|entry| entry.folder.as_deref());
        let vms = parts.map(|part| Snapshot::in_folder(folder.part(part)));
        let vms = vms.collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Inner {
            id: ResourceId::next(),
            name: path.file_name().unwrap_or_default().to_owned(),
            folder,
            vms,
            manifest,
        })))
    }

    /// Its number.
    pub fn id(&self) -> ResourceId {
        self.0.id
    }

    /// What messages call it.
    pub fn subject(&self) -> String {
        format!("snapshot of lab `{}`", self.0.name)
    }

    /// Its folder.
    pub fn path(&self) -> Utf8PathBuf {
        self.0.folder.path().to_owned()
    }

    /// What it takes on the disk, bytes; 0 once it is gone.
    pub fn size(&self) -> u64 {
        self.0.folder.size()
    }

    /// Removes it. Removed already is fine.
    pub fn delete(&self) -> Result<(), LabError> {
        let parts = self.0.vms.iter().map(|vm| &vm.0.folder);
        let mut deleted = parts.chain([&self.0.folder]).map(SnapshotDir::delete);
        let deleted = deleted.try_for_each(|deleted| deleted);
        deleted.map_err(|error| LabError::host(self.subject(), "delete()", error))
    }

    /// Moves its folder, which only it owns, to `place`, in the same file system.
    pub(crate) fn move_to(&self, place: &Utf8Path) -> io::Result<()> {
        self.0.folder.move_to(place)
    }

    /// The same, which was saved whole, after its folder was moved to that of the `seal`.
    fn moved_to(&self, seal: &Seal) -> Self {
        let place = seal.folder();
        let moved = |vm: &Snapshot| {
            let path = vm.path();
            let part = path.file_name().unwrap_or_default();
            vm.moved_to(&place.join(part), seal)
        };
        Self(Arc::new(Inner {
            id: self.0.id,
            name: self.0.name.clone(),
            folder: SnapshotDir::of_author(place, Some(seal.clone())),
            vms: self.0.vms.iter().map(moved).collect(),
            manifest: self.0.manifest.clone(),
        }))
    }
}

/// What a snapshot is taken of.
struct LabContent {
    vms: Vec<VmEntry>,
    /// Those of the entries that are on, and where each is saved.
    booted: Vec<(Vm, SnapshotDir)>,
    /// With the sub-labs on the way to each.
    bridges: Vec<(Vec<String>, Bridge)>,
}

impl LabContent {
    /// Describes the VMs, and saves the disks of those that are off.
    async fn of(
        vms: Vec<(Vec<String>, Vm)>,
        bridges: Vec<(Vec<String>, Bridge)>,
        folder: &SnapshotDir,
    ) -> Result<Self, LabError> {
        let (mut entries, mut booted) = (Vec::new(), Vec::new());
        for (number, (labs, vm)) in vms.into_iter().enumerate() {
            let on = !vm.is_off();
            let part = format!("vm-{number}");
            let disks_folder = format!("disks-{number}");
            let disks = match on {
                // The snapshot of the VM has them.
                true => Vec::new(),
                false => save_disks_of(&vm, &folder.path().join(&disks_folder)).await?,
            };
            entries.push(VmEntry {
                labs,
                name: vm.name().to_owned(),
                profile: vm.profile().to_owned(),
                folder: on.then(|| part.clone()),
                options: match on {
                    true => lock(&vm.0.booted_with).clone(),
                    false => vm.0.options.clone(),
                },
                nics: saved_nics(&vm),
                disks,
                disks_folder,
            });
            if on {
                booted.push((vm, folder.part(&part)));
            }
        }
        Ok(Self {
            vms: entries,
            booted,
            bridges,
        })
    }

    /// Saves the VMs that are on and the bridges, at one instant, and the description of all.
    async fn save(
        self,
        lab: &Lab,
        folder: SnapshotDir,
        form: SaveForm,
    ) -> Result<LabSnapshot, LabError> {
        let (paths, bridges): (Vec<_>, Vec<_>) = self.bridges.into_iter().unzip();
        let taken = take_all(self.booted, bridges, form, AfterSave::Thaw).await?;
        let bridges = paths.into_iter().zip(taken.bridges);
        let bridges = bridges.map(|(labs, saved)| BridgeEntry { labs, saved });
        let manifest = LabManifest::new(self.vms, bridges.collect());
        let written = manifest.write(folder.path());
        written.map_err(|error| LabError::host(lab.subject(), "snapshot()", error))?;
        Ok(LabSnapshot(Arc::new(Inner {
            id: ResourceId::next(),
            name: lab.name().to_owned(),
            folder,
            vms: taken.vms,
            manifest,
        })))
    }
}

fn vm_of(lab: &Lab, scope: &Scope, entry: &VmEntry) -> Result<Vm, LabError> {
    let mut lab = lab.clone();
    for name in &entry.labs {
        lab = lab.sub_lab(scope, Some(name))?;
    }
    if let Some(Member::Vm(vm)) = lab.lookup(scope, &entry.name) {
        return Ok(vm);
    }
    lab.create_vm(scope, &entry.name, &entry.profile, entry.options.clone())
}

/// The disks of a VM that is off, saved in a folder of their own.
async fn save_disks_of(vm: &Vm, folder: &Utf8Path) -> Result<Vec<SavedVmDisk>, LabError> {
    let disks = vm.0.disks.list();
    if disks.is_empty() {
        return Ok(Vec::new());
    }
    let call = "snapshot()";
    fs_err::create_dir(folder).map_err(|error| LabError::host(vm.subject(), call, error))?;
    save_disks(vm, call, disks, folder).await
}

/// The disks of a VM that was off.
fn restored_disks_of(
    vm: &Vm,
    folder: &SnapshotDir,
    entry: &VmEntry,
) -> Result<Vec<VmDisk>, LabError> {
    let part = Utf8Path::new(&entry.disks_folder);
    if part.file_name() != Some(part.as_str()) {
        let why = format!("the snapshot names `{part}`, which is not within its folder");
        let error = io::Error::other(why);
        return Err(LabError::host(vm.subject(), "restore()", error));
    }
    restored_disks(vm, &entry.disks, &folder.path().join(part))
}

fn bridge_of(lab: &Lab, scope: &Scope, entry: &BridgeEntry) -> Result<Bridge, LabError> {
    let mut lab = lab.clone();
    for name in &entry.labs {
        lab = lab.sub_lab(scope, Some(name))?;
    }
    let saved = &entry.saved;
    if let Some(Member::Bridge(bridge)) = lab.lookup(scope, &saved.name) {
        return Ok(bridge);
    }
    lab.bridge_again(scope, saved)
}

/// A new folder in the cache.
fn staging_folder(lab: &Lab) -> Result<StagingFolder, LabError> {
    let call = "snapshot()";
    let host = lab.environment().host();
    let host =
        host.ok_or_else(|| LabError::host(lab.subject(), call, EnvironmentError::NoMachines))?;
    let folder = host.snapshots.staging_folder();
    folder.map_err(|error| LabError::host(lab.subject(), call, error))
}

impl fmt::Debug for LabSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LabSnapshot").field(&self.path()).finish()
    }
}
