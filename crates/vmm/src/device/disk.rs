//! Disks of a machine: places on a PCI bus, and how QEMU is asked for a device in one.
//!
//! ```text
//! guest ── virtio-blk-pci `disk0` ── block node `disk0-1` (driver nbd) ══ unix socket ══ NBD server
//!             on bus `hotplug`         `disk0-0` until one is inserted: a placeholder
//! ```
//!
//! A machine is started and restored with placeholders, which need no server: what is saved of a machine does not
//! depend on what its disks hold, or on their sizes. A placeholder is read as zeroes and forgets what is written.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::device::bus::{FIRST_DISK, HOTPLUG_BUS, Slot, address, device_number};

/// The time for a server's negotiation with QEMU, seconds. QEMU does nothing else meanwhile; without a limit, a
/// silent server would block it.
const OPEN_TIMEOUT: u64 = 10;

/// A place for a disk on the bus where devices are plugged and unplugged. Linux names the disks that it finds when
/// it boots in the order of their places: `vda`, `vdb` …
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct DiskSlot(u8);

/// A disk as the guest sees it, apart from its content and size.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskDevice {
    /// Where it is.
    pub slot: DiskSlot,
    /// What the guest reads as its serial: at most 20 bytes of `A-Z`, `a-z`, `0-9`, `_`, `.` and `-`.
    pub serial: String,
    /// The guest cannot write to it.
    pub read_only: bool,
}

impl DiskSlot {
    /// The number of places.
    pub const COUNT: usize = 20;

    /// The place with this number, from 0 on; `None` for a number that is too large.
    pub fn new(n: usize) -> Option<Self> {
        let number = u8::try_from(n).ok()?;
        (n < Self::COUNT).then_some(Self(number))
    }

    /// Its number.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// QEMU's name of the block node number `n` of this place. The placeholder is number 0.
    pub(crate) fn node(self, n: u64) -> String {
        format!("disk{}-{n}", self.0)
    }
}

impl Slot for DiskSlot {
    fn device_id(self) -> String {
        format!("disk{}", self.0)
    }

    fn of_device(id: &str) -> Option<Self> {
        device_number(id, "disk").and_then(Self::new)
    }
}

impl DiskDevice {
    /// The size of a placeholder, bytes. Not zero, because Linux reports a change of a capacity by a uevent only if
    /// neither the old nor the new one is zero.
    pub const PLACEHOLDER_SIZE: u64 = 1 << 20;

    /// The longest serial that virtio-blk has room for, bytes (`VIRTIO_BLK_ID_BYTES`).
    pub const LONGEST_SERIAL: usize = 20;

    /// Whether a serial can have this character.
    pub fn is_of_serial(character: char) -> bool {
        character.is_ascii_alphanumeric() || "_.-".contains(character)
    }

    /// Why QEMU would refuse or change the serial, if it would.
    pub(crate) fn fault(&self) -> Option<String> {
        let longest = Self::LONGEST_SERIAL;
        if self.serial.len() <= longest && self.serial.chars().all(Self::is_of_serial) {
            return None;
        }
        Some(format!(
            "the serial `{}` of a disk is not at most {longest} letters, digits, `_`, `.` and `-`",
            self.serial.escape_debug()
        ))
    }

    /// The arguments of `-blockdev` for the placeholder.
    pub(crate) fn placeholder(&self) -> Value {
        json!({
            "driver": "null-co",
            "node-name": self.slot.node(0),
            "size": Self::PLACEHOLDER_SIZE,
            "read-zeroes": true,
            "read-only": self.read_only,
        })
    }

    /// The arguments of `-device` and `device_add`, for a disk on this block node.
    pub(crate) fn device(&self, node: &str) -> Value {
        let mut device = json!({
            "driver": "virtio-blk-pci",
            "id": self.slot.device_id(),
            "drive": node,
            "bus": HOTPLUG_BUS,
            "addr": address(FIRST_DISK, self.slot.0),
            // A device of virtio 0.9 would need an I/O window of the bridge.
            "disable-legacy": "on",
            // Every error is reported to the guest; none stops the machine.
            "rerror": "report",
            "werror": "report",
            // A volatile cache, which the guest flushes.
            "write-cache": "on",
            "discard": true,
            "write-zeroes": true,
        });
        if !self.serial.is_empty() {
            device["serial"] = json!(self.serial);
        }
        device
    }

    /// The arguments of `blockdev-add` for the block node `node`, which is the export of the NBD server at `socket`.
    ///
    /// QEMU's defaults are left out, because each byte of a command takes it several µs. These are: a connection that
    /// breaks fails the guest's commands at once (`reconnect-delay` 0), the guest's flushes are passed to the server
    /// (`cache.no-flush` off). The driver `nbd` itself keeps nothing, with any `cache.direct`.
    pub(crate) fn nbd_node(&self, node: &str, socket: &str) -> Value {
        let mut arguments = json!({
            "driver": "nbd",
            "node-name": node,
            "server": { "type": "unix", "path": socket },
            "discard": "unmap",
            "open-timeout": OPEN_TIMEOUT,
        });
        if self.read_only {
            arguments["read-only"] = json!(true);
        }
        arguments
    }
}

impl TryFrom<u8> for DiskSlot {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        let slot = Self::new(usize::from(number));
        slot.ok_or_else(|| {
            format!(
                "a machine has disk slots up to {}, not {number}",
                Self::COUNT - 1
            )
        })
    }
}

impl From<DiskSlot> for u8 {
    fn from(slot: DiskSlot) -> Self {
        slot.0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn disk(slot: usize, serial: &str, read_only: bool) -> DiskDevice {
        DiskDevice {
            slot: DiskSlot::new(slot).unwrap(),
            serial: serial.to_owned(),
            read_only,
        }
    }

    #[test]
    fn slots_are_numbered_from_0() {
        let last = DiskSlot::new(DiskSlot::COUNT - 1).unwrap();
        assert_eq!(last.index(), 19);
        assert_eq!(last.node(3), "disk19-3");
        assert_eq!(DiskSlot::new(DiskSlot::COUNT), None);
        assert_eq!(DiskSlot::new(256), None);
    }

    #[test]
    fn a_device_is_known_by_its_name() {
        let slot = DiskSlot::new(13).unwrap();
        assert_eq!(DiskSlot::of_device(&slot.device_id()), Some(slot));
        for other in [
            "disk20", "disk", "disk013", "disk+3", "disk1-0", "nic3", "vda",
        ] {
            assert_eq!(DiskSlot::of_device(other), None, "{other}");
        }
    }

    #[test]
    fn serials_that_a_guest_would_not_see_are_refused() {
        for serial in ["", "data", "a_b.c-D9", "12345678901234567890"] {
            assert_eq!(disk(0, serial, false).fault(), None, "{serial}");
        }
        for serial in ["123456789012345678901", "a b", "a,b", "ä", "a\0"] {
            let fault = disk(0, serial, false).fault();
            assert!(fault.is_some_and(|why| why.contains("20 letters")));
        }
    }

    #[test]
    fn a_file_holds_slot_serial_and_mode() {
        let text = serde_json::to_string(&disk(7, "data", true)).unwrap();
        assert_eq!(text, r#"{"slot":7,"serial":"data","read_only":true}"#);
        let error = serde_json::from_str::<DiskSlot>("20").unwrap_err();
        assert!(error.to_string().contains("up to 19, not 20"), "{error}");
    }

    #[test]
    fn a_node_asks_for_the_export_at_the_socket() {
        let node = |read_only| disk(1, "data", read_only).nbd_node("disk1-2", "/run/a, b.sock");
        insta::assert_snapshot!(node(false), @r#"{"discard":"unmap","driver":"nbd","node-name":"disk1-2","open-timeout":10,"server":{"path":"/run/a, b.sock","type":"unix"}}"#);
        assert_eq!(node(true)["read-only"], true);
    }
}
