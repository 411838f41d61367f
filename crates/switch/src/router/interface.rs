//! An interface of the router.

use super::nat::Nat;
use crate::MacAddress;
use crate::services::Services;
use bytes::Bytes;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Identifies an interface of one router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceId(pub(super) usize);

impl InterfaceId {
    /// The first one of a router.
    pub(crate) const FIRST: Self = Self(0);

    /// The one that is added after this one.
    pub(crate) fn following(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A frame that the router sends from one of its interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardedFrame {
    /// The interface.
    pub interface: InterfaceId,
    /// The frame.
    pub frame: Bytes,
}

/// What an interface is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceSettings {
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Its IPv4 address, and the number of leading bits that the subnet has in common.
    pub ipv4: Option<(Ipv4Addr, u8)>,
    /// Its IPv6 address, in the same way. Its link-local address is derived from `mac`.
    pub ipv6: Option<(Ipv6Addr, u8)>,
    /// Longest packet that is sent, bytes.
    pub mtu: usize,
}

/// The stations at the other end of an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UplinkHops {
    /// What everything is sent to.
    pub gateway: Ipv4Addr,
    /// A DNS server: it is asked for the names that the router's own DNS servers do not know.
    pub dns: Option<Ipv4Addr>,
}

#[derive(Debug, Clone)]
pub(super) struct Interface {
    pub(super) settings: InterfaceSettings,
    pub(super) services: Services,
    /// What an interface to an uplink has.
    pub(super) uplink: Option<Uplink>,
}

/// The way to everything that is not a subnet of the router.
#[derive(Debug, Clone)]
pub(super) struct Uplink {
    pub(super) hops: UplinkHops,
    pub(super) nat: Nat,
}

impl InterfaceSettings {
    /// Whether it has this address.
    pub(super) fn owns(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.ipv4.is_some_and(|(own, _)| own == address),
            IpAddr::V6(address) => {
                self.ipv6.is_some_and(|(own, _)| own == address) || address == self.link_local()
            }
        }
    }

    /// How many leading bits the address has in common with the subnet; `None` if it is not in it.
    pub(super) fn route_to(&self, address: IpAddr) -> Option<u8> {
        let (own, address, bits, length) = match address {
            IpAddr::V4(address) => {
                let (own, length) = self.ipv4?;
                (
                    u128::from(own.to_bits()),
                    u128::from(address.to_bits()),
                    32,
                    length,
                )
            }
            IpAddr::V6(address) => {
                let (own, length) = self.ipv6?;
                (own.to_bits(), address.to_bits(), 128, length)
            }
        };
        let host_bits = bits - u32::from(length).min(bits);
        let differs = (own ^ address).checked_shr(host_bits).unwrap_or(0);
        (differs == 0).then_some(length)
    }

    /// Whether it is the address of all stations of the IPv4 subnet.
    pub(super) fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        self.ipv4.is_some_and(|(own, length)| {
            let hosts = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            // Subnets of two addresses have none (RFC 3021).
            hosts > 1 && address.to_bits() == own.to_bits() | hosts
        })
    }

    /// The modified EUI-64 address of RFC 4291, appendix A.
    pub(super) fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac.0;
        let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(
            0xfe80,
            0,
            0,
            0,
            word(a ^ 2, b),
            word(c, 0xff),
            word(0xfe, d),
            word(e, f),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface() -> InterfaceSettings {
        InterfaceSettings {
            mac: MacAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
            ipv4: Some((Ipv4Addr::new(10, 1, 2, 254), 24)),
            ipv6: Some(("fd00:1::fe".parse().expect("an address"), 64)),
            mtu: 1500,
        }
    }

    #[test]
    fn a_subnet_has_the_addresses_with_its_prefix() {
        let route = |address: &str| interface().route_to(address.parse().expect("an address"));
        assert_eq!(route("10.1.2.3"), Some(24));
        assert_eq!(route("10.1.3.3"), None);
        assert_eq!(route("fd00:1::abcd"), Some(64));
        assert_eq!(route("fd00:2::1"), None);
        let all = InterfaceSettings {
            ipv4: Some((Ipv4Addr::new(10, 0, 0, 1), 0)),
            ..interface()
        };
        assert_eq!(
            all.route_to("192.0.2.1".parse().expect("an address")),
            Some(0)
        );
    }

    #[test]
    fn the_last_address_of_a_subnet_is_for_all() {
        let is_broadcast = |last| interface().is_broadcast(Ipv4Addr::new(10, 1, 2, last));
        assert!(is_broadcast(255) && !is_broadcast(254));
        let two = InterfaceSettings {
            ipv4: Some((Ipv4Addr::new(10, 1, 2, 2), 31)),
            ..interface()
        };
        assert!(!two.is_broadcast(Ipv4Addr::new(10, 1, 2, 3)));
    }

    #[test]
    fn the_link_local_address_is_derived_from_the_ethernet_address() {
        assert_eq!(
            interface().link_local().to_string(),
            "fe80::5054:ff:fe12:3456"
        );
    }
}
