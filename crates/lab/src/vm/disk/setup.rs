//! The disks of a machine that is about to run: served, in their places, and seen by the guest as they are.

use crate::disk::{DiskId, ServedDisks, VmDisk, VolumeError, serial_of};
use crate::guest::wait::ChannelFailure;
use crate::lock::lock;
use crate::save::SavedVm;
use crate::vm::disk::guest_view::{GuestView, settle_disks};
use crate::vm::state::VmCore;
use futures_util::future::try_join_all;
use provium_disk::{DiskError, LogMark};
use provium_guest::{CallError, Channel};
use provium_image::GuestImage;
use provium_vmm::{DiskDevice, Machine, VmmError};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Why a guest does not have the disks that it should have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskSetupError {
    #[error("disk `{id}` cannot be served")]
    Serve { id: String, source: std::io::Error },
    #[error("disk `{id}` cannot be inserted into the machine")]
    Machine { id: String, source: VmmError },
    #[error("disk `{id}` cannot be prepared")]
    Volume { id: String, source: VolumeError },
    #[error("the agent cannot set up the disks")]
    Agent(#[from] CallError),
}

impl ChannelFailure for DiskSetupError {
    fn is_end_of_channel(&self) -> bool {
        matches!(self, Self::Agent(error) if error.is_end_of_channel())
    }
}

/// When a machine was given its disks, apart from that of the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InsertTime {
    /// Its kernel has found them.
    BeforeBoot,
    /// Its guest has booted with empty disks in their places, which were these, and only the host has used it since
    /// then.
    AfterBoot(Vec<DiskDevice>),
}

/// Marks of the disks that are written to.
pub(crate) type DiskMarks = BTreeMap<DiskId, LogMark>;

fn failed(disk: &VmDisk, error: DiskError) -> DiskSetupError {
    DiskSetupError::Volume {
        id: disk.id.to_string(),
        source: error.into(),
    }
}

/// The disks of a machine that is about to run.
#[derive(Debug)]
pub(crate) struct MachineDisks {
    list: Mutex<Vec<VmDisk>>,
    pub(crate) served: ServedDisks,
}

impl MachineDisks {
    /// Disks that have their places in the machine.
    pub(crate) fn new(list: Vec<VmDisk>) -> Self {
        Self {
            list: Mutex::new(list),
            served: ServedDisks::default(),
        }
    }

    /// The devices to launch the machine with.
    pub(crate) fn devices(&self) -> Vec<DiskDevice> {
        lock(&self.list).iter().filter_map(VmDisk::device).collect()
    }

    /// As they are now.
    pub(crate) fn list(&self) -> Vec<VmDisk> {
        lock(&self.list).clone()
    }

    /// Gives the root, if it is on a disk, the content that it has in the image: an earlier machine of this boot may
    /// have written to it.
    pub(crate) fn renew_root(&self, vm: &VmCore, image: &GuestImage) -> Result<(), DiskSetupError> {
        let Some(image) = &image.root_disk else {
            return Ok(());
        };
        for disk in lock(&self.list).iter_mut().filter(|disk| disk.is_root()) {
            let opened = vm.disk_content().open_root(image);
            disk.volume = opened.map_err(|source| DiskSetupError::Volume {
                id: disk.id.to_string(),
                source,
            })?;
        }
        Ok(())
    }

    /// Where the disks are now that a machine may write to, for [`Self::roll_back`].
    pub(crate) fn mark(&self) -> Result<DiskMarks, DiskSetupError> {
        let list = self.list();
        let written = list
            .iter()
            .filter(|disk| !disk.volume.disk().is_read_only());
        let marks = written.map(|disk| {
            let mark = disk.volume.disk().mark_log();
            Ok((disk.id.clone(), mark.map_err(|error| failed(disk, error))?))
        });
        marks.collect()
    }

    /// Takes back what a machine has written that has ended.
    pub(crate) fn roll_back(&self, marks: &DiskMarks) -> Result<(), DiskSetupError> {
        // What it has sent is carried out before that.
        self.served.end();
        for disk in self.list() {
            // Another root is opened for each machine, which has no such mark.
            if let Some(mark) = marks.get(&disk.id).filter(|_| !disk.is_root()) {
                let undone = disk.volume.disk().roll_back(*mark);
                undone.map_err(|error| failed(&disk, error))?;
            }
        }
        Ok(())
    }

    /// Gives the root the content that it has in a saved VM.
    pub(crate) fn restore_root(&self, vm: &VmCore, saved: &SavedVm) -> Result<(), DiskSetupError> {
        for root in &saved.manifest.disks {
            let restored = vm.disk_content().restore(root, saved.folder());
            let restored = restored.map_err(|source| DiskSetupError::Volume {
                id: root.id.to_string(),
                source,
            })?;
            let mut list = lock(&self.list);
            if let Some(disk) = list.iter_mut().find(|disk| disk.is_root()) {
                disk.volume = restored.volume;
            }
        }
        Ok(())
    }

    /// Serves those for which `is_meant`, and puts them into the machine, in place of what it was launched with.
    pub(crate) async fn insert(
        &self,
        machine: &Machine,
        is_meant: impl Fn(&VmDisk) -> bool,
    ) -> Result<(), DiskSetupError> {
        let list = self.list();
        let meant = list.iter().filter(|disk| is_meant(disk));
        let insertions = meant.map(|disk| insert_disk(machine, &self.served, disk));
        try_join_all(insertions).await.map(drop)
    }

    /// Makes the guest see its disks as they are.
    pub(crate) async fn settle(
        &self,
        channel: &Channel,
        inserted: InsertTime,
    ) -> Result<(), DiskSetupError> {
        let mut disks = self.list();
        if disks.is_empty() {
            return Ok(());
        }
        let found = |disk: &VmDisk| match &inserted {
            InsertTime::AfterBoot(empty) if !disk.is_root() => GuestView::Empty {
                serial: disk.slot.and_then(|slot| serial_of(empty, slot)),
            },
            InsertTime::AfterBoot(_) | InsertTime::BeforeBoot => GuestView::Current,
        };
        settle_disks(channel, &mut disks, found).await?;
        *lock(&self.list) = disks;
        Ok(())
    }
}

/// Serves a disk, and puts it into its place in the machine, in place of what is there.
pub(crate) async fn insert_disk(
    machine: &Machine,
    served: &ServedDisks,
    disk: &VmDisk,
) -> Result<(), DiskSetupError> {
    let Some(slot) = disk.slot else {
        return Ok(());
    };
    let id = || disk.id.to_string();
    let offered = disk.volume.serve(disk.id.as_str(), machine.guest_end());
    let offered = offered.map_err(|source| DiskSetupError::Serve { id: id(), source })?;
    let size = disk.volume.disk().size();
    let inserted = machine.insert_own_disk(slot, offered.socket(), size);
    let inserted = inserted.await;
    inserted.map_err(|source| DiskSetupError::Machine { id: id(), source })?;
    served.add(slot, offered.connected());
    Ok(())
}
