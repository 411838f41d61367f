//! The guest's side of networks: NICs, their addresses, the names of other guests.

// Of `core`, which has addresses and no sockets.
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// The whole network configuration that the host wants. Setting it again changes nothing.
///
/// Addresses and routes that an earlier request has set and this one does not contain are removed.
/// What the guest has configured by itself stays. An interface whose NIC is not listed is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetNetwork {
    /// The NICs. One that the guest does not have yet, because it has just been plugged in, is waited for.
    pub nics: Vec<NicConfig>,
    /// Names for `/etc/hosts`: the content of a marked block, which is removed if there are none.
    pub hosts: Vec<HostEntry>,
}

/// One NIC. Its interface is brought up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicConfig {
    /// The hardware address that the device has of itself, by which its interface is found.
    pub device_mac: [u8; 6],
    /// The name that the interface gets, such as `eth0`.
    pub name: String,
    /// The hardware address that it gets.
    pub mac: [u8; 6],
    /// The largest packet in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddress>,
    /// Routes through it.
    pub routes: Vec<Route>,
    /// Whether its link is connected: the reply waits until the interface has a carrier.
    pub has_carrier: bool,
}

/// An address and the length of its network prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// Bits of the prefix: 0 to 32, or 128 for IPv6.
    pub prefix: u8,
}

/// A route through a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads; prefix 0 is the default route.
    pub destination: InterfaceAddress,
    /// The gateway, which a prefix of the NIC's addresses has to contain.
    pub gateway: IpAddr,
}

/// Names of one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The address.
    pub address: IpAddr,
    /// Its names; the first is the canonical one.
    pub names: Vec<String>,
}

/// Figures about a NIC, as the guest's kernel counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadNicCounters {
    /// As in [`NicConfig::device_mac`].
    pub device_mac: [u8; 6],
}

/// Figures about a NIC since its driver was loaded, as the guest's kernel counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicCounters {
    /// Bytes received, Ethernet headers included.
    pub rx_bytes: u64,
    /// Bytes sent, Ethernet headers included.
    pub tx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors in both directions.
    pub errors: u64,
    /// Packets that the kernel dropped, in both directions.
    pub dropped: u64,
}
