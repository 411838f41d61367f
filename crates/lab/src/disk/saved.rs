//! A disk in a snapshot of its VM.

use crate::disk::options::{DiskId, DiskOptions};
use crate::disk::scratch::DiskScratch;
use crate::disk::vm_disk::{DiskOrigin, VmDisk};
use crate::disk::volume::{Volume, VolumeError};
use camino::Utf8Path;
use provium_disk::SavedDisk;
use provium_vmm::DiskSlot;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;

/// A disk of a saved VM. Its files are in a part of the snapshot's folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedVmDisk {
    pub(crate) id: DiskId,
    pub(crate) options: DiskOptions,
    pub(crate) origin: DiskOrigin,
    /// Its place in the machine; `None`: the VM was off.
    pub(crate) slot: Option<DiskSlot>,
    /// The guest's name for it, such as `vda`.
    pub(crate) node: Option<String>,
    /// The folder of its files, within the snapshot's.
    folder: String,
    pub(crate) saved: SavedDisk,
}

impl SavedVmDisk {
    /// Saves a disk in a part of `folder`, the `number`-th of its VM.
    pub(crate) fn save(
        disk: &VmDisk,
        folder: &Utf8Path,
        number: usize,
    ) -> Result<Self, VolumeError> {
        let part = format!("disk-{number}");
        let path = folder.join(&part);
        fs_err::create_dir(&path)?;
        Ok(Self {
            id: disk.id.clone(),
            options: disk.options.clone(),
            origin: disk.origin,
            slot: disk.slot,
            node: disk.node.clone(),
            folder: part,
            saved: disk.volume.disk().save(&path)?,
        })
    }

    /// The disk as it was saved in `folder`.
    pub(crate) fn restore(
        &self,
        folder: &Utf8Path,
        scratch: &Arc<DiskScratch>,
        seed: u64,
    ) -> Result<VmDisk, VolumeError> {
        let part = Utf8Path::new(&self.folder);
        if part.file_name() != Some(part.as_str()) {
            let why = format!("`{part}` is not within the folder of the snapshot");
            return Err(io::Error::other(why).into());
        }
        let volume = Volume::restore(&self.saved, &folder.join(part), scratch, seed)?;
        Ok(VmDisk {
            id: self.id.clone(),
            options: self.options.clone(),
            origin: self.origin,
            slot: self.slot,
            node: self.node.clone(),
            volume,
        })
    }
}
