//! Addresses of bridges and of their members.

use provium_switch::MacAddress;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The host number of the bridge's own services and of its router.
const GATEWAY: u32 = 1;

/// The host number of the first member.
const FIRST_MEMBER: u32 = 2;

/// Prefix lengths of IPv4 subnets that have room for members.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=29;

/// The prefix length of all IPv6 subnets.
pub(crate) const PREFIX_V6: u8 = 64;

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv4Network {
    address: Ipv4Addr,
    prefix: u8,
}

/// What is not an IPv4 network for a bridge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// Not of the form `ADDRESS/PREFIX`.
    #[error("`{0}` is not an IPv4 network; expected ADDRESS/PREFIX, as in \"10.1.2.0/24\"")]
    Form(String),
    /// The prefix length is out of range.
    #[error("the prefix length of `{0}` is not between 8 and 29")]
    Prefix(String),
    /// Bits after the prefix are set.
    #[error("`{given}` has bits set after its prefix; the network is `{network}`")]
    HostBits {
        /// What was given.
        given: String,
        /// What is probably meant.
        network: Ipv4Network,
    },
}

impl FromStr for Ipv4Network {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let form = || SubnetError::Form(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(form)?;
        let address: Ipv4Addr = address.parse().map_err(|_| form())?;
        let prefix: u8 = prefix.parse().map_err(|_| form())?;
        if !PREFIXES.contains(&prefix) {
            return Err(SubnetError::Prefix(text.to_owned()));
        }
        let network = Self {
            address: Ipv4Addr::from(u32::from(address) & mask(prefix)),
            prefix,
        };
        if network.address != address {
            return Err(SubnetError::HostBits {
                given: text.to_owned(),
                network,
            });
        }
        Ok(network)
    }
}

impl Ipv4Network {
    fn host(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) | number)
    }

    /// The last host number; the one after it is the broadcast address.
    fn last(self) -> u32 {
        !mask(self.prefix) - 1
    }

    fn overlaps(self, other: Self) -> bool {
        let mask = mask(self.prefix.min(other.prefix));
        u32::from(self.address) & mask == u32::from(other.address) & mask
    }
}

impl fmt::Display for Ipv4Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX << (32 - u32::from(prefix))
}

/// The addresses of a bridge: an IPv4 network, and an IPv6 network of the unique local range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    ipv4: Ipv4Network,
    number: u16,
}

/// The addresses of a host in a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAddresses {
    /// IPv4.
    pub ipv4: Ipv4Addr,
    /// IPv6.
    pub ipv6: Ipv6Addr,
}

impl Subnet {
    /// The subnet of that number: `10.0.N.0/24` and `fd00:0:0:N::/64`.
    pub(crate) fn numbered(number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        Self {
            ipv4: Ipv4Network {
                address: Ipv4Addr::new(10, high, low, 0),
                prefix: 24,
            },
            number,
        }
    }

    /// The same, with another IPv4 network.
    pub(crate) fn with_ipv4(self, ipv4: Ipv4Network) -> Self {
        Self { ipv4, ..self }
    }

    /// The number that it has in its file.
    pub(crate) fn number(self) -> u16 {
        self.number
    }

    /// Its IPv4 network.
    pub fn ipv4(self) -> Ipv4Network {
        self.ipv4
    }

    /// The prefix length of its IPv4 network.
    pub fn ipv4_prefix(self) -> u8 {
        self.ipv4.prefix
    }

    /// The first address of its IPv4 network.
    pub(crate) fn ipv4_address(self) -> Ipv4Addr {
        self.ipv4.address
    }

    /// The first address of its IPv6 network.
    pub(crate) fn ipv6_address(self) -> Ipv6Addr {
        self.host(0).ipv6
    }

    /// The addresses of the bridge's services and of its router.
    pub fn gateway(self) -> HostAddresses {
        self.host(GATEWAY)
    }

    /// The smallest host number from the first member's on that is not `taken`; `None` if all are.
    pub(crate) fn free_host(self, taken: impl Fn(u32) -> bool) -> Option<u32> {
        (FIRST_MEMBER..=self.ipv4.last()).find(|number| !taken(*number))
    }

    /// The host number of an IPv4 address; `None` if it is not in the network, or not a host's.
    pub(crate) fn host_number(self, address: Ipv4Addr) -> Option<u32> {
        let bits = u32::from(address);
        let number = bits & !mask(self.ipv4.prefix);
        let is_inside = bits & mask(self.ipv4.prefix) == u32::from(self.ipv4.address);
        (is_inside && (1..=self.ipv4.last()).contains(&number)).then_some(number)
    }

    /// The addresses of the host of that number.
    pub(crate) fn host(self, number: u32) -> HostAddresses {
        let [high, low] = [(number >> 16) as u16, number as u16];
        HostAddresses {
            ipv4: self.ipv4.host(number),
            ipv6: Ipv6Addr::new(0xfd00, 0, 0, self.number, 0, 0, high, low),
        }
    }

    /// Whether a host could not be in both.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.ipv4.overlaps(other.ipv4) || self.number == other.number
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}/{PREFIX_V6}", self.ipv4, self.ipv6_address())
    }
}

/// The MAC address of a member: the same in each run, since it depends on the names only. `attempt` gives another one
/// if that is taken.
pub(crate) fn member_mac(bridge: &str, member: &str, attempt: u64) -> MacAddress {
    let mut hasher = blake3::Hasher::new_derive_key("provium 2026 MAC address of a NIC");
    for part in [bridge, member] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.update(&attempt.to_le_bytes());
    let [a, b, c, d, e, ..] = *hasher.finalize().as_bytes();
    MacAddress::local(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_checked() {
        let network: Ipv4Network = "10.1.2.0/24".parse().unwrap();
        assert_eq!(network.to_string(), "10.1.2.0/24");
        let error = |text: &str| text.parse::<Ipv4Network>().unwrap_err().to_string();
        contains(&error("10.1.2.0"), "expected ADDRESS/PREFIX");
        contains(&error("10.1.2/24"), "expected ADDRESS/PREFIX");
        contains(&error("10.1.2.0/33"), "between 8 and 29");
        contains(&error("10.1.2.3/24"), "the network is `10.1.2.0/24`");
    }

    fn contains(text: &str, part: &str) {
        assert!(text.contains(part), "{text}");
    }

    #[test]
    fn addresses_follow_from_the_number() {
        let subnet = Subnet::numbered(1);
        assert_eq!(subnet.to_string(), "10.0.1.0/24 and fd00:0:0:1::/64");
        let first = subnet.host(subnet.free_host(|_| false).unwrap());
        assert_eq!(first.ipv4.to_string(), "10.0.1.2");
        assert_eq!(first.ipv6.to_string(), "fd00:0:0:1::2");
        assert_eq!(subnet.free_host(|number| number < 254), Some(254));
        assert_eq!(subnet.free_host(|_| true), None);
        let small = subnet.with_ipv4("192.168.0.8/29".parse().unwrap());
        assert_eq!(small.host(6).ipv4.to_string(), "192.168.0.14");
        assert_eq!(small.free_host(|number| number < 6), Some(6));
        assert_eq!(small.free_host(|number| number < 7), None);
        assert_eq!(small.host_number(Ipv4Addr::new(192, 168, 0, 14)), Some(6));
        assert_eq!(small.host_number(Ipv4Addr::new(192, 168, 0, 15)), None);
        assert_eq!(small.host_number(Ipv4Addr::new(192, 168, 0, 16)), None);
        assert!(!subnet.overlaps(Subnet::numbered(2)));
        assert!(subnet.overlaps(Subnet::numbered(2).with_ipv4("10.0.0.0/8".parse().unwrap())));
    }

    #[test]
    fn macs_depend_on_both_names() {
        let mac = member_mac("lan", "a", 0);
        assert_eq!(mac, member_mac("lan", "a", 0));
        for other in [
            member_mac("lan", "b", 0),
            member_mac("la", "na", 0),
            member_mac("lan", "a", 1),
        ] {
            assert_ne!(mac, other);
        }
    }
}
