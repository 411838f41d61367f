//! The bus where devices are plugged and unplugged, and its places.
//!
//! | addresses | devices |
//! |---|---|
//! | 0x01 to 0x08 | NICs |
//! | 0x09 to 0x1c | disks |
//!
//! A device at launch and a plugged one are the same device in the same place, so that a machine whose devices
//! were plugged can be restored into one that is launched with them.

use std::fmt;

use crate::disk::DiskSlot;
use crate::nic::NicSlot;

/// QEMU's name for the bus.
pub(crate) const HOTPLUG_BUS: &str = "hotplug";

/// The address of the first NIC: the first place of a bus behind a bridge may be the bridge's own.
const FIRST_NIC: u8 = 1;
/// The address of the first disk.
const FIRST_DISK: u8 = FIRST_NIC + NicSlot::COUNT as u8;
// A conventional bus has 32 places.
const _: () = assert!(FIRST_DISK as usize + DiskSlot::COUNT <= 32);

/// A place on the bus where devices are plugged and unplugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceSlot {
    /// For a NIC.
    Nic(NicSlot),
    /// For a disk.
    Disk(DiskSlot),
}

/// The places of one kind of device.
pub(crate) trait Slot: Copy + Ord + Into<DeviceSlot> {
    /// QEMU's name of the device in this place.
    fn device_id(self) -> String;

    /// The place that QEMU's device `id` is in, if it is of this kind.
    fn of_device(id: &str) -> Option<Self>;
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

    /// Its address on the bus, as `-device` and `device_add` take it.
    pub(crate) fn address(self) -> String {
        let address = match self {
            Self::Nic(slot) => FIRST_NIC + u8::from(slot),
            Self::Disk(slot) => FIRST_DISK + u8::from(slot),
        };
        format!("{address:x}")
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

/// The number at the end of a device's name: `3` of `nic3` for the prefix `nic`.
pub(crate) fn device_number(id: &str, prefix: &str) -> Option<usize> {
    let digits = id.strip_prefix(prefix)?;
    let number: usize = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_devices_have_one_address() {
        let nics = (0..NicSlot::COUNT).filter_map(NicSlot::new);
        let disks = (0..DiskSlot::COUNT).filter_map(DiskSlot::new);
        let nics = nics.map(DeviceSlot::from);
        let addresses: Vec<String> = nics
            .chain(disks.map(DeviceSlot::from))
            .map(DeviceSlot::address)
            .collect();
        assert_eq!(addresses[0], "1");
        assert_eq!(addresses[8], "9");
        assert_eq!(addresses.last().map(String::as_str), Some("1c"));
        let distinct: BTreeSet<&String> = addresses.iter().collect();
        assert_eq!(distinct.len(), addresses.len());
    }
}
