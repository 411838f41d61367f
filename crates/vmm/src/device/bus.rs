//! The bus where devices are plugged and unplugged, and its places.
//!
//! | addresses | devices |
//! |---|---|
//! | 0x01 to 0x08 | NICs |
//! | 0x09 to 0x1c | disks |
//!
//! A device at launch and a plugged one are the same device in the same place, so that a machine whose devices
//! were plugged can be restored into one that is launched with them.

/// QEMU's name for the bus.
pub(crate) const HOTPLUG_BUS: &str = "hotplug";

/// The number of addresses on a conventional PCI bus.
pub(crate) const PLACES: usize = 32;
/// The address of the first NIC: the first place of a bus behind a bridge may be the bridge's own.
pub(crate) const FIRST_NIC: u8 = 1;
/// The address of the first disk.
pub(crate) const FIRST_DISK: u8 = 9;

/// The places of one kind of device.
pub(crate) trait Slot: Copy + Ord {
    /// QEMU's name of the device in this place.
    fn device_id(self) -> String;

    /// The place that QEMU's device `id` is in, if it is of this kind.
    fn of_device(id: &str) -> Option<Self>;
}

/// An address as `-device` and `device_add` take it.
pub(crate) fn address(first: u8, number: u8) -> String {
    format!("{:x}", first + number)
}

/// The number at the end of a device's name: `3` of `nic3` for the prefix `nic`.
pub(crate) fn device_number(id: &str, prefix: &str) -> Option<usize> {
    let digits = id.strip_prefix(prefix)?;
    let number: usize = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}
