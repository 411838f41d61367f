//! The snapshot of a VM.

use crate::error::LabError;
use crate::guest::process::ProcessMark;
use crate::resource::{ResourceId, TimelineHistory};
use crate::save::SavedVm;
use crate::snapshot::folder::{SnapshotDir, VM_SIGN, open_sealed};
use crate::vm_options::VmOptions;
use camino::{Utf8Path, Utf8PathBuf};
use provium_pool::{Resources, resources_of_vm};
use provium_store::{CacheEntry, Seal};
use std::fmt;
use std::io;
use std::sync::Arc;

/// The saved state of a VM.
#[derive(Clone)]
pub struct Snapshot(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) id: ResourceId,
    pub(crate) folder: SnapshotDir,
    pub(crate) saved: SavedVm,
    /// What makes handles of the VM valid again; `None`: it is another run's.
    pub(crate) origin: Option<Origin>,
}

/// The VM that was saved, and what of it was held at that moment.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) vm: ResourceId,
    pub(crate) past: TimelineHistory,
    pub(crate) processes: Vec<ProcessMark>,
    pub(crate) open_files: usize,
}

impl Snapshot {
    /// The snapshot in a folder that [`Vm::snapshot`](crate::Vm::snapshot) was given, in this run or
    /// another.
    ///
    /// # Errors
    /// When the folder holds none that this version can use.
    pub fn open(path: &Utf8Path) -> Result<Self, LabError> {
        open_sealed(path, VM_SIGN, Self::in_folder)
    }

    /// The snapshot in a part of an entry of the cache.
    pub(crate) fn of_entry(entry: &Arc<CacheEntry>, path: &Utf8Path) -> Result<Self, LabError> {
        Self::in_folder(SnapshotDir::of_entry(entry, path))
    }

    pub(crate) fn in_folder(folder: SnapshotDir) -> Result<Self, LabError> {
        let path = folder.path();
        let saved = SavedVm::whole(folder.as_base())
            .map_err(|error| LabError::host(format!("snapshot `{path}`"), "restore()", error))?;
        Ok(Self(Arc::new(Inner {
            id: ResourceId::next(),
            folder,
            saved,
            origin: None,
        })))
    }

    /// Moves its folder, which only it owns, to `place`, in the same file system.
    pub(crate) fn move_to(&self, place: &Utf8Path) -> io::Result<()> {
        self.0.folder.move_to(place)
    }

    /// The same, which was saved whole, after its folder was sealed and moved to `place`.
    pub(crate) fn moved_to(&self, place: &Utf8Path, seal: &Seal) -> Self {
        Self(Arc::new(Inner {
            id: self.0.id,
            folder: SnapshotDir::of_author(place, Some(seal.clone())),
            saved: self.0.saved.moved_to(place, seal.clone()),
            origin: self.0.origin.clone(),
        }))
    }

    /// Checks a folder that its author looks after, before it is restored.
    ///
    /// # Errors
    /// When another snapshot has replaced it, or a file of it is damaged.
    pub(crate) async fn check(&self) -> Result<(), LabError> {
        self.0.folder.check(&self.subject()).await
    }

    /// The memory and vCPUs of a VM that is restored from it.
    pub(crate) fn need(&self) -> Resources {
        let machine = &self.0.saved.machine.manifest;
        resources_of_vm(machine.memory, machine.cpus)
    }

    /// The options for a VM that boots as the saved one did.
    pub(crate) fn options(&self) -> VmOptions {
        let machine = &self.0.saved.machine.manifest;
        let of_machine = VmOptions {
            memory: Some(machine.memory),
            cpus: Some(machine.cpus),
            rng_seed: machine.rng_seed,
            ..VmOptions::default()
        };
        let options = self.0.saved.manifest.options.clone();
        options.unwrap_or_default().over(&of_machine)
    }

    /// Its number.
    pub fn id(&self) -> ResourceId {
        self.0.id
    }

    /// What messages call it.
    pub fn subject(&self) -> String {
        format!("snapshot of vm `{}`", self.0.saved.manifest.name)
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
        let deleted = self.0.folder.delete();
        deleted.map_err(|error| LabError::host(self.subject(), "delete()", error))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Snapshot").field(&self.path()).finish()
    }
}
