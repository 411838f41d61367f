//! Opens what is on the disks of a VM.

use crate::disk::{
    DiskId, DiskOptions, DiskScratch, SavedVmDisk, VmDisk, Volume, VolumeError, disk_seed,
};
use crate::environment::Host;
use crate::error::LabError;
use crate::vm::state::VmCore;
use camino::Utf8Path;
use provium_image::{DiskImage, ROOT_DISK};
use std::sync::Arc;

/// Opens volumes for the disks of a VM, in its folder and with its seeds.
#[derive(Clone, Copy)]
pub(crate) struct DiskContent<'a> {
    vm: &'a VmCore,
}

impl VmCore {
    /// What opens the content of its disks.
    pub(crate) fn disk_content(&self) -> DiskContent<'_> {
        DiskContent { vm: self }
    }
}

impl DiskContent<'_> {
    /// The folder for what is written to the disks.
    pub(crate) fn scratch(self) -> Result<Arc<DiskScratch>, VolumeError> {
        self.vm.disks.scratch(&self.host()?.snapshots)
    }

    /// The volume of a new disk.
    pub(crate) async fn open(
        self,
        id: &DiskId,
        options: &DiskOptions,
    ) -> Result<Volume, VolumeError> {
        let images = &self.host()?.images;
        Volume::open(options, images, &self.scratch()?, self.seed(id)).await
    }

    /// The volume of a new root.
    pub(crate) fn open_root(self, image: &DiskImage) -> Result<Volume, VolumeError> {
        let seed = self.seed(&DiskId::by_name(ROOT_DISK));
        Volume::of_image(image.clone(), false, &self.scratch()?, seed)
    }

    /// A disk as it was saved in `folder`.
    pub(crate) fn restore(
        self,
        saved: &SavedVmDisk,
        folder: &Utf8Path,
    ) -> Result<VmDisk, VolumeError> {
        saved.restore(folder, &self.scratch()?, self.seed(&saved.id))
    }

    /// The error of a call that a disk makes fail.
    pub(crate) fn error(self, call: &str, id: &DiskId, error: VolumeError) -> LabError {
        LabError::host(format!("disk `{id}` of {}", self.vm.subject()), call, error)
    }

    fn seed(self, id: &DiskId) -> u64 {
        let run = self.vm.environment().seed();
        disk_seed(run, &self.vm.file.path, &self.vm.name, id.as_str())
    }

    fn host(&self) -> Result<&Host, VolumeError> {
        self.vm.environment().host().ok_or(VolumeError::NoMachines)
    }
}
