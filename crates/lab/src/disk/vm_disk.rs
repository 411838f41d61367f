//! A disk of a VM: its name, its content, and its slot in the machine.

use crate::disk::options::{DiskId, DiskOptions};
use crate::disk::volume::Volume;
use provium_vmm::{DiskDevice, DiskSlot};
use serde::{Deserialize, Serialize};

/// A disk of a VM, whether or not it runs.
#[derive(Debug, Clone)]
pub(crate) struct VmDisk {
    pub(crate) id: DiskId,
    pub(crate) options: DiskOptions,
    pub(crate) origin: DiskOrigin,
    /// Its place in the machine; `None`: the machine does not have it.
    pub(crate) slot: Option<DiskSlot>,
    /// The guest's name for it, such as `vda`.
    pub(crate) node: Option<String>,
    pub(crate) volume: Volume,
}

/// Why a VM has a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DiskOrigin {
    /// Its guest's root file system is on it. It is new at each boot.
    Root,
    /// The profile or the options name it.
    Declared,
    /// A test attached it.
    Attached,
}

impl VmDisk {
    /// A disk that no machine has yet.
    pub(crate) fn new(
        id: DiskId,
        options: DiskOptions,
        origin: DiskOrigin,
        volume: Volume,
    ) -> Self {
        Self {
            id,
            options,
            origin,
            slot: None,
            node: None,
            volume,
        }
    }

    /// Whether the guest's root file system is on it.
    pub(crate) fn is_root(&self) -> bool {
        self.origin == DiskOrigin::Root
    }

    /// The device of a machine that has it.
    pub(crate) fn device(&self) -> Option<DiskDevice> {
        Some(DiskDevice {
            slot: self.slot?,
            serial: self.id.serial(),
            read_only: self.options.read_only,
        })
    }
}

/// The serial number of the device in this slot.
pub(crate) fn serial_of(devices: &[DiskDevice], slot: DiskSlot) -> Option<String> {
    let device = devices.iter().find(|device| device.slot == slot)?;
    Some(device.serial.clone())
}
