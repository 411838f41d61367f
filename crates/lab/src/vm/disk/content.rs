//! Opens what is on the disks of a VM.

use crate::disk::{
    DiskId, DiskOptions, DiskScratch, DiskSource, SavedVmDisk, VmDisk, Volume, VolumeError,
    disk_seed,
};
use crate::environment::Host;
use crate::error::LabError;
use crate::vm::state::VmCore;
use camino::Utf8Path;
use provium_events::NoticeSubject;
use provium_image::{DiskImage, ROOT_DISK};
use provium_pool::uncounted;
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
        let scratch = self.scratch()?;
        let opened = Volume::open(options, images, &scratch, self.seed(id));
        // An image that is not in the cache yet is made now.
        let volume = uncounted(opened).await?;
        match &options.source {
            DiskSource::Path(image) if !options.read_only => {
                self.observe(id, &volume, &format!("the image `{image}`, and "))?;
            }
            _ => self.observe(id, &volume, "")?,
        }
        Ok(volume)
    }

    /// The volume of a new root.
    pub(crate) fn open_root(self, image: &DiskImage) -> Result<Volume, VolumeError> {
        let id = DiskId::by_name(ROOT_DISK);
        let seed = self.seed(&id);
        let volume = Volume::of_image(image.clone(), false, &self.scratch()?, seed)?;
        self.observe(&id, &volume, "")?;
        Ok(volume)
    }

    /// A disk whose content was made elsewhere.
    pub(crate) fn adopt(
        self,
        id: &DiskId,
        content: provium_disk::Disk,
    ) -> Result<Volume, VolumeError> {
        let volume = Volume::of_disk(content, &self.scratch()?);
        self.observe(id, &volume, "")?;
        Ok(volume)
    }

    /// An independent copy of what is on a disk now.
    pub(crate) fn fork(self, disk: &VmDisk) -> Result<Volume, VolumeError> {
        let volume = disk.volume.fork(&self.scratch()?)?;
        self.observe(&disk.id, &volume, "")?;
        Ok(volume)
    }

    /// A disk as it was saved in `folder`.
    pub(crate) fn restore(
        self,
        saved: &SavedVmDisk,
        folder: &Utf8Path,
    ) -> Result<VmDisk, VolumeError> {
        let disk = saved.restore(folder, &self.scratch()?, self.seed(&saved.id))?;
        self.observe(&saved.id, &disk.volume, "")?;
        Ok(disk)
    }

    /// Has the user warned when the host cannot read or write the files of a disk, since the guest only gets an error.
    /// `image` names an image of the author that is written to, for the warning.
    fn observe(self, id: &DiskId, volume: &Volume, image: &str) -> Result<(), VolumeError> {
        let file = Arc::clone(&self.vm.file);
        let disk = format!("disk `{id}` of {}", self.vm.subject());
        let place = format!("{image}`{}`", self.host()?.snapshots.path());
        volume.disk().observe_host_failure(move |failure| {
            let text = format!(
                "{disk}: the host could not carry out {failure}; the guest got an error. What is written to the disk \
                 is in {place}: make room there, or set another `cache_dir`"
            );
            file.warn(NoticeSubject::Guest, text);
        });
        Ok(())
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
