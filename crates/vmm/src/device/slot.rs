//! A place for a device of any kind.

use std::fmt;

use crate::device::bus::{FIRST_DISK, FIRST_NIC, PLACES};
use crate::device::{DiskSlot, NicSlot};

// No two devices have one address.
const _: () = assert!(FIRST_NIC as usize + NicSlot::COUNT <= FIRST_DISK as usize);
const _: () = assert!(FIRST_DISK as usize + DiskSlot::COUNT <= PLACES);

/// A place on the bus where devices are plugged and unplugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceSlot {
    /// For a NIC.
    Nic(NicSlot),
    /// For a disk.
    Disk(DiskSlot),
}

impl DeviceSlot {
    /// What the place is for.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Nic(_) => "NIC",
            Self::Disk(_) => "disk",
        }
    }

    /// Its number among the places for its kind of device.
    pub fn index(self) -> usize {
        match self {
            Self::Nic(slot) => slot.index(),
            Self::Disk(slot) => slot.index(),
        }
    }
}

/// As messages call it: `NIC slot 3`.
impl fmt::Display for DeviceSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} slot {}", self.kind(), self.index())
    }
}

impl From<NicSlot> for DeviceSlot {
    fn from(slot: NicSlot) -> Self {
        Self::Nic(slot)
    }
}

impl From<DiskSlot> for DeviceSlot {
    fn from(slot: DiskSlot) -> Self {
        Self::Disk(slot)
    }
}
