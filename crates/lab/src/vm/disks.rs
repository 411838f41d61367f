//! The disks of a VM, whether or not it runs.
//!
//! | where a disk comes from | how long its content exists |
//! |---|---|
//! | the guest's root | until the next boot |
//! | profile and options | as long as the VM; another list at a boot replaces them |
//! | `attach_disk` | until it is detached |

use crate::disk::{
    DiskId, DiskOptions, DiskOrigin, DiskScratch, SavedVmDisk, VmDisk, Volume, VolumeError,
    disk_seed,
};
use crate::error::LabError;
use crate::lock::lock;
use crate::vm::state::VmCore;
use crate::vm_options::VmOptions;
use camino::Utf8Path;
use provium_image::{DiskImage, GuestImage, ROOT_DISK};
use provium_vmm::DiskSlot;
use std::sync::{Arc, Mutex};

/// The disks of a VM, in the order of their attachment.
#[derive(Debug, Default)]
pub(crate) struct VmDisks {
    list: Mutex<Vec<VmDisk>>,
    scratch: Mutex<Option<Arc<DiskScratch>>>,
}

/// A disk that a VM is to have.
struct WantedDisk {
    id: DiskId,
    options: DiskOptions,
    origin: DiskOrigin,
}

impl VmDisks {
    /// All of them.
    pub(crate) fn list(&self) -> Vec<VmDisk> {
        lock(&self.list).clone()
    }

    /// The one of that name.
    pub(crate) fn find(&self, id: &str) -> Option<VmDisk> {
        let list = lock(&self.list);
        list.iter().find(|disk| disk.id.as_str() == id).cloned()
    }

    /// Replaces all of them.
    pub(crate) fn set(&self, disks: Vec<VmDisk>) {
        *lock(&self.list) = disks;
    }

    /// Adds one.
    pub(crate) fn push(&self, disk: VmDisk) {
        lock(&self.list).push(disk);
    }

    /// Removes the one of that name.
    pub(crate) fn remove(&self, id: &str) {
        lock(&self.list).retain(|disk| disk.id.as_str() != id);
    }

    /// Ends what a power cut has left: the disks work again.
    pub(crate) fn power_on(&self) {
        for disk in self.list() {
            disk.volume.disk().power_on();
        }
    }

    /// Notes that no machine has them.
    pub(crate) fn leave_machine(&self) {
        for disk in lock(&self.list).iter_mut() {
            disk.slot = None;
            disk.node = None;
        }
    }
}

impl VmCore {
    /// The folder for what is written to its disks.
    pub(crate) fn disk_scratch(&self) -> Result<Arc<DiskScratch>, VolumeError> {
        let mut scratch = lock(&self.disks.scratch);
        if let Some(scratch) = &*scratch {
            return Ok(Arc::clone(scratch));
        }
        let host = self.environment().host().ok_or(VolumeError::NoMachines)?;
        let made = DiskScratch::new(&host.snapshots)?;
        Ok(Arc::clone(scratch.insert(made)))
    }

    /// The seed of a disk's chance.
    fn disk_seed(&self, id: &DiskId) -> u64 {
        let run = self.environment().seed();
        disk_seed(run, &self.file.path, &self.name, id.as_str())
    }

    /// The volume of a new disk.
    pub(crate) async fn open_volume(
        &self,
        call: &str,
        id: &DiskId,
        options: &DiskOptions,
    ) -> Result<Volume, LabError> {
        let open = async {
            let host = self.environment().host().ok_or(VolumeError::NoMachines)?;
            let (scratch, seed) = (self.disk_scratch()?, self.disk_seed(id));
            Volume::open(options, &host.images, &scratch, seed).await
        };
        open.await.map_err(|error| self.disk_error(call, id, error))
    }

    /// The volume of a new root.
    pub(crate) fn open_root(&self, image: &DiskImage) -> Result<Volume, VolumeError> {
        let seed = self.disk_seed(&DiskId::by_name(ROOT_DISK));
        Volume::of_image(image.clone(), false, &self.disk_scratch()?, seed)
    }

    /// A disk as it was saved in `folder`.
    pub(crate) fn restore_disk(
        &self,
        saved: &SavedVmDisk,
        folder: &Utf8Path,
    ) -> Result<VmDisk, VolumeError> {
        saved.restore(folder, &self.disk_scratch()?, self.disk_seed(&saved.id))
    }

    /// The error of a call that a disk of it makes fail.
    pub(crate) fn disk_error(&self, call: &str, id: &DiskId, error: VolumeError) -> LabError {
        LabError::host(format!("disk `{id}` of {}", self.subject()), call, error)
    }

    /// Makes sure that it has the disks that its profile and these options name. They are served to no machine yet.
    pub(crate) async fn declare_disks(
        &self,
        call: &str,
        options: &VmOptions,
    ) -> Result<(), LabError> {
        let list = self.wanted_disks(call, options)?;
        self.replace_disks(call, list, None).await
    }

    /// The disks of a boot with these options, each with its place in the machine.
    pub(crate) async fn disks_for_boot(
        &self,
        options: &VmOptions,
        image: &GuestImage,
    ) -> Result<Vec<VmDisk>, LabError> {
        let call = "boot()";
        let list = self.wanted_disks(call, options)?;
        self.replace_disks(call, list, Some(image)).await?;
        let mut disks = self.disks.list();
        for (number, disk) in disks.iter_mut().enumerate() {
            disk.slot = DiskSlot::new(number);
            disk.volume.disk().power_on();
        }
        Ok(disks)
    }

    async fn replace_disks(
        &self,
        call: &str,
        wanted: Vec<WantedDisk>,
        image: Option<&GuestImage>,
    ) -> Result<(), LabError> {
        let current = self.disks.list();
        let mut disks = Vec::new();
        if let Some(root) = image.and_then(|image| image.root_disk.as_ref()) {
            let id = DiskId::by_name(ROOT_DISK);
            let volume = self.open_root(root);
            let volume = volume.map_err(|error| self.disk_error(call, &id, error))?;
            disks.push(VmDisk {
                id,
                options: DiskOptions::template(root.path.clone()),
                origin: DiskOrigin::Root,
                slot: None,
                node: None,
                volume,
            });
        }
        for WantedDisk {
            id,
            options,
            origin,
        } in wanted
        {
            let kept = current
                .iter()
                .find(|disk| disk.id == id && disk.options == options);
            let volume = match kept {
                Some(disk) => disk.volume.clone(),
                None => self.open_volume(call, &id, &options).await?,
            };
            disks.push(VmDisk {
                id,
                options,
                origin,
                slot: None,
                node: None,
                volume,
            });
        }
        self.disks.set(disks);
        Ok(())
    }

    /// The disks that it is to have, but for that of its root: those of the profile, of the options, and those that
    /// are attached to it.
    fn wanted_disks(&self, call: &str, options: &VmOptions) -> Result<Vec<WantedDisk>, LabError> {
        let invalid = |why: String| LabError::invalid(self.subject(), call, why);
        let declared = self.profile.disks.iter();
        let declared = declared.chain(options.disks.iter().flatten());
        let mut wanted: Vec<WantedDisk> = Vec::new();
        for (place, options) in declared.enumerate() {
            let id = match &options.id {
                Some(id) => DiskId::new(id).map_err(invalid)?,
                None => DiskId::by_place(place),
            };
            wanted.push(WantedDisk {
                id,
                options: options.clone(),
                origin: DiskOrigin::Declared,
            });
        }
        let attached = self.disks.list().into_iter();
        let attached = attached.filter(|disk| disk.origin == DiskOrigin::Attached);
        wanted.extend(attached.map(|disk| WantedDisk {
            id: disk.id,
            options: disk.options,
            origin: disk.origin,
        }));
        for (place, disk) in wanted.iter().enumerate() {
            if wanted[..place].iter().any(|other| other.id == disk.id) {
                return Err(invalid(format!("two disks have the id `{}`", disk.id)));
            }
        }
        if wanted.len() >= DiskSlot::COUNT {
            return Err(invalid(format!(
                "it has {} disks; a machine has places for {}",
                wanted.len(),
                DiskSlot::COUNT - 1
            )));
        }
        Ok(wanted)
    }
}
