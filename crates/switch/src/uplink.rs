//! The way from a router to the network of the host, by the program `passt`, without root.
//!
//! ```text
//! bridge ── Switch ── RouterTask ── Switch of the uplink ── socket ── passt ── sockets of the host
//!                     192.0.0.2                             192.0.0.1 gateway, 192.0.0.3 DNS
//! ```
//!
//! `passt` has the framing of QEMU's `-netdev stream`, so it is connected to a port of a switch as a NIC is.
//! It serves one guest: it sends everything to the addresses (Ethernet and IP) that it saw last, so two
//! guests that use one `passt` take each other's packets. Therefore the router is its only guest, and
//! translates the addresses of the stations behind it ([`Router::add_uplink`]).
//!
//! To set it up:
//! 1. Start a [`Switch`] for the uplink and connect one end of a socket pair to it with [`port_settings`].
//! 2. Start `passt` with [`passt_arguments`] and the other end as an inherited descriptor. It ends when the
//!    socket is closed. It reports on stderr why it cannot start; without a default route it has nothing to
//!    use. Debian's package is `passt`.
//! 3. Give the [`RouterTask`] another port of that switch with [`RouterTask::add_uplink`],
//!    [`interface_settings`] and [`HOPS`], and join the interfaces of bridges that may use it.
//! 4. The stations need a default route to the router, and a DNS server: that of the bridge, which passes on
//!    questions for names that it does not know, or [`DNS`].
//!
//! It carries IPv4: TCP, UDP, and echo requests if the host lets users send them
//! (`net.ipv4.ping_group_range`). Connections from the host to a station are not possible. Connections through
//! it end with it, so they do not continue in a restored switch.
//!
//! [`Router::add_uplink`]: crate::router::Router::add_uplink
//! [`RouterTask`]: crate::shell::RouterTask
//! [`RouterTask::add_uplink`]: crate::shell::RouterTask::add_uplink
//! [`Switch`]: crate::shell::Switch

use crate::router::{InterfaceSettings, UplinkHops};
use crate::{MacAddress, PortSettings};
use std::net::Ipv4Addr;
use std::os::fd::RawFd;

/// The address of the router. It is of the range that RFC 7335 reserves for links like this one, so it hides
/// no address of the Internet.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);
/// The next hop of the router, and, if [`PasstOptions::host_loopback`] is set, the host's loopback interface.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
/// The DNS server of the host, for UDP: the first one of `/etc/resolv.conf`. `passt` reads it by itself; the
/// version of Debian 12 sends questions to `0.0.0.0` if it is given with `--dns`.
pub const DNS: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 3);

/// Both as the router needs them.
pub const HOPS: UplinkHops = UplinkHops {
    gateway: GATEWAY,
    dns: Some(DNS),
};

const PREFIX: u8 = 29;
const ROUTER_MAC: MacAddress = MacAddress([0x52, 0x54, 0, 0x70, 0x76, 0xfd]);
const PASST_MAC: MacAddress = MacAddress([0x52, 0x54, 0, 0x70, 0x76, 0xfe]);
/// The longest packet that `passt` takes, so that the router makes no fragments, which `passt` ignores.
const MTU: usize = 65_520;

/// What `passt` lets the router reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PasstOptions {
    /// Whether [`GATEWAY`] reaches services that listen on the host's loopback interface only.
    pub host_loopback: bool,
}

/// The arguments of `passt`. `socket`: the number of a descriptor that it inherits, one end of a pair of stream
/// sockets.
#[must_use]
pub fn passt_arguments(socket: RawFd, options: PasstOptions) -> Vec<String> {
    let mut arguments: Vec<String> = [
        // It then ends with its socket, and is a child of the process that starts it.
        "--foreground",
        "--quiet",
        "--ipv4-only",
        // The router has its addresses, and asks for none.
        "--no-dhcp",
        "--no-dhcpv6",
        "--no-ndp",
        "--no-ra",
    ]
    .map(str::to_owned)
    .to_vec();
    let values = [
        ("--fd", socket.to_string()),
        ("--address", ADDRESS.to_string()),
        ("--netmask", PREFIX.to_string()),
        ("--gateway", GATEWAY.to_string()),
        ("--mac-addr", PASST_MAC.to_string()),
        ("--dns-forward", DNS.to_string()),
        ("--tcp-ports", "none".to_owned()),
        ("--udp-ports", "none".to_owned()),
    ];
    for (name, value) in values {
        arguments.extend([name.to_owned(), value]);
    }
    if !options.host_loopback {
        arguments.push("--no-map-gw".to_owned());
    }
    arguments
}

/// The ports of `passt` and of the router on the switch of the uplink.
#[must_use]
pub fn port_settings(name: &str) -> PortSettings {
    PortSettings {
        mtu: MTU,
        ..PortSettings::new(name)
    }
}

/// The router's interface to the uplink.
#[must_use]
pub fn interface_settings() -> InterfaceSettings {
    InterfaceSettings {
        mac: ROUTER_MAC,
        ipv4: Some((ADDRESS, PREFIX)),
        ipv6: None,
        mtu: MTU,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_of_the_host_is_closed_unless_it_is_asked_for() {
        let has_map = |host_loopback| {
            let arguments = passt_arguments(3, PasstOptions { host_loopback });
            assert!(arguments.windows(2).any(|pair| pair == ["--fd", "3"]));
            !arguments.contains(&"--no-map-gw".to_owned())
        };
        assert!(!has_map(false) && has_map(true));
    }
}
