//! Gives a machine and its guest the disks of the VM.

use crate::disk::{DiskId, ServedDisks, VmDisk, VolumeError, serial_of};
use crate::error::LabError;
use crate::guest::wait::ChannelFailure;
use crate::lock::lock;
use crate::save::SavedVm;
use crate::vm::handle::Vm;
use crate::vm::running::RunningMachine;
use crate::vm::state::VmCore;
use futures_util::future::try_join_all;
use provium_disk::{DiskError, LogMark};
use provium_guest::{CallError, Channel};
use provium_image::GuestImage;
use provium_protocol::op::{DiskConfig, DiskMount, SetDisks};
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

/// What a guest has seen of a disk so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GuestView {
    /// Nothing, or its content.
    Current,
    /// Other content, which it may have cached.
    Stale,
    /// A disk without content, which nothing has used, with this serial number if it is known.
    Empty { serial: Option<String> },
}

/// Makes a guest see these disks, which are all that it has. `found` returns what it has seen of them.
pub(crate) async fn settle_disks(
    channel: &Channel,
    disks: &mut [VmDisk],
    found: impl Fn(&VmDisk) -> GuestView,
) -> Result<(), CallError> {
    let configs = disks.iter().map(|disk| {
        let (is_replaced, known_as) = match found(disk) {
            GuestView::Current => (false, None),
            GuestView::Stale => (true, None),
            GuestView::Empty { serial } => (true, serial),
        };
        DiskConfig {
            serial: disk.id.serial(),
            size: disk.volume.disk().size(),
            read_only: disk.options.read_only,
            is_replaced,
            may_have_partitions: is_replaced && disk.volume.may_have_partitions(),
            known_as,
            mount: disk.options.mount.as_ref().map(|path| DiskMount {
                path: path.clone(),
                filesystem: filesystem(disk),
                read_only: disk.options.read_only,
            }),
        }
    });
    let request = SetDisks {
        disks: configs.collect(),
    };
    let nodes = channel.set_disks(request).await?;
    for disk in disks {
        let serial = disk.id.serial();
        let node = nodes.iter().find(|node| node.serial == serial);
        disk.node = node.map(|node| node.name.clone());
    }
    Ok(())
}

/// The file system that the guest is to mount: the one that is named, or else the one that is on the disk. A disk with
/// none that is known may be mounted already; otherwise the agent reports that it has no ext4.
fn filesystem(disk: &VmDisk) -> String {
    let named = disk.options.filesystem.clone();
    named.unwrap_or_else(|| disk.volume.filesystem().unwrap_or("ext4").to_owned())
}

/// Connects QEMU again to the disks whose connections were broken, which it does not do by itself; which they were.
pub(crate) async fn connect_lost_disks(
    vm: &Vm,
    running: &RunningMachine,
) -> Result<Vec<DiskId>, DiskSetupError> {
    let mut connected = Vec::new();
    for disk in vm.0.disks.list() {
        let slot = disk
            .slot
            .filter(|slot| running.served_disks.lost_connection(*slot).is_some());
        if slot.is_some() {
            insert_disk(&running.machine, &running.served_disks, &disk).await?;
            connected.push(disk.id);
        }
    }
    Ok(connected)
}

/// Makes a guest that has booted again, on the machine that it had, see its disks.
pub(crate) async fn settle_again(vm: &Vm, running: &RunningMachine) -> Result<(), LabError> {
    let failed = |error| LabError::host(vm.subject(), "reset()", error);
    let mut disks = vm.0.disks.list();
    if disks.is_empty() {
        return Ok(());
    }
    let connected = connect_lost_disks(vm, running).await.map_err(failed)?;
    let found = |disk: &VmDisk| match connected.contains(&disk.id) {
        true => GuestView::Stale,
        false => GuestView::Current,
    };
    let settled = settle_disks(&running.channel, &mut disks, found).await;
    settled.map_err(|error| failed(error.into()))?;
    vm.0.disks.set(disks);
    Ok(())
}
