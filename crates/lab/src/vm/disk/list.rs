//! The disks of a VM, whether or not it runs. Data only.

use crate::disk::{DiskScratch, VmDisk, VolumeError};
use crate::lock::lock;
use provium_store::Bucket;
use std::sync::{Arc, Mutex};

/// The disks of a VM, in the order of their attachment.
#[derive(Debug, Default)]
pub(crate) struct VmDisks {
    list: Mutex<Vec<VmDisk>>,
    scratch: Mutex<Option<Arc<DiskScratch>>>,
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

    /// The folder for what is written to them, which is made in that bucket when it is first needed.
    pub(crate) fn scratch(&self, bucket: &Bucket) -> Result<Arc<DiskScratch>, VolumeError> {
        let mut scratch = lock(&self.scratch);
        if let Some(scratch) = &*scratch {
            return Ok(Arc::clone(scratch));
        }
        let made = DiskScratch::new(bucket)?;
        Ok(Arc::clone(scratch.insert(made)))
    }
}
