//! Ethernet addresses.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An EUI-48 address (IEEE 802).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The address of all stations.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it is a group address: a multicast address, or the broadcast address.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// A locally administered address derived from `seed`, which differs for different seeds of 40 bits.
    #[must_use]
    pub const fn local(seed: u64) -> Self {
        let [_, _, _, b, c, d, e, f] = seed.to_be_bytes();
        Self([0x52, b, c, d, e, f])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_in_hexadecimal_with_colons() {
        let address = MacAddress([0x52, 0x54, 0, 0xab, 1, 0xff]);
        assert_eq!(address.to_string(), "52:54:00:ab:01:ff");
    }

    #[test]
    fn derived_addresses_are_local_station_addresses() {
        let address = MacAddress::local(0x12_3456_789a);
        assert!(!address.is_group());
        assert_eq!(address.0[0] & 2, 2);
        assert_ne!(address, MacAddress::local(0x12_3456_789b));
    }
}
