//! NICs of a machine: places on a PCI bus, and how QEMU is asked for a device in one.
//!
//! ```text
//! guest ── virtio-net-pci `nic0` ── netdev `netdev0` ══ socket ══ our end: a port of a switch
//!             on bus `hotplug`
//! ```

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::device::bus::{FIRST_NIC, HOTPLUG_BUS, Slot, address, device_number};

/// A place for a NIC on the bus where devices are plugged and unplugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct NicSlot(u8);

impl NicSlot {
    /// The number of places.
    pub const COUNT: usize = 8;

    /// The place with this number, from 0 on; `None` for a number that is too large.
    pub fn new(n: usize) -> Option<Self> {
        let number = u8::try_from(n).ok()?;
        (n < Self::COUNT).then_some(Self(number))
    }

    /// Its number.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The hardware address of the device in this place, the same in all machines: an address of its own is
    /// given to an interface by the guest, after the machine is restored.
    pub fn device_mac(self) -> [u8; 6] {
        // Locally administered, with QEMU's prefix and `pv`.
        [0x52, 0x54, 0x00, 0x70, 0x76, self.0]
    }

    /// QEMU's name of the socket's end, which is also the name that the descriptor is passed under.
    pub(crate) fn netdev_id(self) -> String {
        format!("netdev{}", self.0)
    }

    /// The arguments of `-netdev` and `netdev_add`. `fd` is the number of an inherited descriptor, or the name
    /// of one that was passed.
    ///
    /// `socket` has the framing of `stream`, which cannot be given a descriptor at run time: QEMU 7.2 looks its
    /// name up in a thread that does not know the monitor, and only records the error in `info network`.
    pub(crate) fn netdev(self, fd: &str) -> Value {
        json!({ "type": "socket", "id": self.netdev_id(), "fd": fd })
    }

    /// The arguments of `set_link`.
    pub(crate) fn link(self, up: bool) -> Value {
        json!({ "name": self.device_id(), "up": up })
    }

    /// The arguments of `-device` and `device_add`.
    pub(crate) fn device(self) -> Value {
        let [a, b, c, d, e, f] = self.device_mac();
        json!({
            "driver": "virtio-net-pci",
            "id": self.device_id(),
            "netdev": self.netdev_id(),
            "bus": HOTPLUG_BUS,
            "addr": address(FIRST_NIC, self.0),
            "mac": format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"),
            // No firmware boots from it.
            "romfile": "",
            // A device of virtio 0.9 would need an I/O window of the bridge.
            "disable-legacy": "on",
            // A restored guest does not announce the address that the saved one had.
            "guest_announce": false,
        })
    }
}

impl Slot for NicSlot {
    fn device_id(self) -> String {
        format!("nic{}", self.0)
    }

    fn of_device(id: &str) -> Option<Self> {
        device_number(id, "nic").and_then(Self::new)
    }
}

impl TryFrom<u8> for NicSlot {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        let slot = Self::new(usize::from(number));
        slot.ok_or_else(|| {
            format!(
                "a machine has NIC slots up to {}, not {number}",
                Self::COUNT - 1
            )
        })
    }
}

impl From<NicSlot> for u8 {
    fn from(slot: NicSlot) -> Self {
        slot.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_numbered_from_0() {
        let last = NicSlot::new(NicSlot::COUNT - 1).unwrap();
        assert_eq!(last.index(), NicSlot::COUNT - 1);
        assert_eq!(NicSlot::new(NicSlot::COUNT), None);
        assert_eq!(NicSlot::new(256), None);
        assert_eq!(last.device_mac(), [0x52, 0x54, 0x00, 0x70, 0x76, 7]);
    }

    #[test]
    fn a_device_is_known_by_its_name() {
        let slot = NicSlot::new(3).unwrap();
        assert_eq!(NicSlot::of_device(&slot.device_id()), Some(slot));
        for other in ["nic8", "nic", "nic03", "nic+3", "netdev3", "agent-port"] {
            assert_eq!(NicSlot::of_device(other), None, "{other}");
        }
    }

    #[test]
    fn a_file_holds_the_number() {
        let slot = NicSlot::new(5).unwrap();
        assert_eq!(serde_json::to_string(&[slot]).unwrap(), "[5]");
        assert_eq!(serde_json::from_str::<Vec<NicSlot>>("[5]").unwrap(), [slot]);
        let error = serde_json::from_str::<NicSlot>("8").unwrap_err();
        assert!(error.to_string().contains("up to 7, not 8"), "{error}");
    }
}
