//! Changes to interfaces, addresses and routes, as requests to the kernel.

use super::wire::Request;
use provium_protocol::op::{InterfaceAddress, Route};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

const CREATE: i32 = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const REPLACE: i32 = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;

/// A change to the interface of this index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) index: u32,
    /// The interface's name, for messages.
    pub(super) interface: String,
    pub(super) what: ChangeKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChangeKind {
    Rename(String),
    SetMac([u8; 6]),
    SetMtu(u32),
    TakeDown,
    BringUp,
    AddAddress(InterfaceAddress),
    RemoveAddress(InterfaceAddress),
    AddRoute(Route, u32),
    RemoveRoute(Route, u32),
}

impl Change {
    pub(super) fn request(&self) -> Request {
        match &self.what {
            ChangeKind::Rename(name) => {
                let name = [name.as_bytes(), &[0]].concat();
                self.link(0, 0).with(libc::IFLA_IFNAME, &name)
            }
            ChangeKind::SetMac(mac) => self.link(0, 0).with(libc::IFLA_ADDRESS, mac),
            ChangeKind::SetMtu(mtu) => self.link(0, 0).with(libc::IFLA_MTU, &mtu.to_ne_bytes()),
            ChangeKind::TakeDown => self.link(0, libc::IFF_UP),
            ChangeKind::BringUp => self.link(libc::IFF_UP, libc::IFF_UP),
            ChangeKind::AddAddress(address) => self.address(libc::RTM_NEWADDR, CREATE, *address),
            ChangeKind::RemoveAddress(address) => {
                self.address(libc::RTM_DELADDR, libc::NLM_F_ACK, *address)
            }
            ChangeKind::AddRoute(route, metric) => {
                self.route(libc::RTM_NEWROUTE, REPLACE, *route, *metric)
            }
            ChangeKind::RemoveRoute(route, metric) => {
                self.route(libc::RTM_DELROUTE, libc::NLM_F_ACK, *route, *metric)
            }
        }
    }

    /// `struct ifinfomsg`.
    fn link(&self, flags: i32, mask: i32) -> Request {
        let mut fixed = [0; 16];
        fixed[4..8].copy_from_slice(&self.index.to_ne_bytes());
        fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
        fixed[12..16].copy_from_slice(&mask.to_ne_bytes());
        Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, &fixed)
    }

    /// `struct ifaddrmsg`. IPv6 addresses are usable at once: the host gives each address once, so
    /// a second owner does not have to be looked for.
    fn address(&self, kind: u16, flags: i32, address: InterfaceAddress) -> Request {
        let InterfaceAddress { address, prefix } = address;
        let (family, bytes) = encoded(address);
        let no_detection = match address {
            IpAddr::V4(_) => 0,
            IpAddr::V6(_) => libc::IFA_F_NODAD as u8,
        };
        let mut fixed = [family, prefix, no_detection, 0, 0, 0, 0, 0];
        fixed[4..].copy_from_slice(&self.index.to_ne_bytes());
        let request = Request::new(kind, flags, &fixed)
            .with(libc::IFA_LOCAL, &bytes)
            .with(libc::IFA_ADDRESS, &bytes);
        match address {
            IpAddr::V4(address) if prefix <= 30 => {
                request.with(libc::IFA_BROADCAST, &broadcast(address, prefix).octets())
            }
            _ => request,
        }
    }

    /// `struct rtmsg`.
    fn route(&self, kind: u16, flags: i32, route: Route, metric: u32) -> Request {
        let Route {
            destination,
            gateway,
        } = route;
        let (family, bytes) = encoded(network(destination));
        let fixed = [
            family,
            destination.prefix,
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_STATIC,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
            0,
            0,
            0,
            0,
        ];
        let request = Request::new(kind, flags, &fixed)
            .with(libc::RTA_GATEWAY, &encoded(gateway).1)
            .with(libc::RTA_OIF, &self.index.to_ne_bytes())
            .with(libc::RTA_PRIORITY, &metric.to_ne_bytes());
        if destination.prefix == 0 {
            return request;
        }
        request.with(libc::RTA_DST, &bytes)
    }
}

/// For a message: what was tried.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.interface;
        match &self.what {
            ChangeKind::Rename(new) => write!(f, "renaming {name} to {new}"),
            ChangeKind::SetMac(mac) => write!(f, "setting the MAC of {name} to {}", Mac(mac)),
            ChangeKind::SetMtu(mtu) => write!(f, "setting the MTU of {name} to {mtu}"),
            ChangeKind::TakeDown => write!(f, "taking {name} down"),
            ChangeKind::BringUp => write!(f, "bringing {name} up"),
            ChangeKind::AddAddress(address) => {
                write!(f, "adding {} to {name}", PrefixText(address))
            }
            ChangeKind::RemoveAddress(address) => {
                write!(f, "removing {} from {name}", PrefixText(address))
            }
            ChangeKind::AddRoute(route, _) => {
                write!(f, "adding the route {} of {name}", RouteText(route))
            }
            ChangeKind::RemoveRoute(route, _) => {
                write!(f, "removing the route {} of {name}", RouteText(route))
            }
        }
    }
}

/// A hardware address as text.
pub(super) struct Mac<'a>(pub(super) &'a [u8]);

impl fmt::Display for Mac<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

struct PrefixText<'a>(&'a InterfaceAddress);

impl fmt::Display for PrefixText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.address, self.0.prefix)
    }
}

struct RouteText<'a>(&'a Route);

impl fmt::Display for RouteText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Route {
            destination,
            gateway,
        } = self.0;
        write!(f, "{} through {gateway}", PrefixText(destination))
    }
}

/// The address family and the bytes of an address.
fn encoded(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().to_vec()),
    }
}

/// The last address of the network.
fn broadcast(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    (address.to_bits() | host_bits).into()
}

/// The address without the bits behind the prefix, which a route may not have.
pub(super) fn network(destination: InterfaceAddress) -> IpAddr {
    let prefix = u32::from(destination.prefix);
    match destination.address {
        IpAddr::V4(address) => {
            let host_bits = u32::MAX.checked_shr(prefix).unwrap_or(0);
            IpAddr::V4((address.to_bits() & !host_bits).into())
        }
        IpAddr::V6(address) => {
            let host_bits = u128::MAX.checked_shr(prefix).unwrap_or(0);
            IpAddr::V6((address.to_bits() & !host_bits).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::wire;

    fn at(address: impl Into<IpAddr>, prefix: u8) -> InterfaceAddress {
        InterfaceAddress {
            address: address.into(),
            prefix,
        }
    }

    fn change(what: ChangeKind) -> Change {
        Change {
            index: 3,
            interface: "eth0".to_owned(),
            what,
        }
    }

    fn attributes_of(what: ChangeKind, fixed: usize) -> Vec<(u16, Vec<u8>)> {
        let bytes = change(what).request().finish(1);
        let message = wire::messages(&bytes).next().unwrap();
        wire::attributes(message.payload, fixed)
            .map(|(kind, value)| (kind, value.to_vec()))
            .collect()
    }

    #[test]
    fn ipv4_addresses_have_a_broadcast_address_where_there_is_room() {
        let of = |address| attributes_of(ChangeKind::AddAddress(address), 8);
        assert_eq!(
            of(at([10, 0, 3, 2], 22)).last(),
            Some(&(libc::IFA_BROADCAST, vec![10, 0, 3, 255]))
        );
        assert_eq!(of(at([10, 0, 0, 2], 31)).len(), 2);
        assert_eq!(of(at([0xfd; 16], 64)).len(), 2);
    }

    #[test]
    fn routes_lose_the_bits_behind_their_prefix() {
        let of = |destination: InterfaceAddress, gateway: IpAddr| {
            let route = Route {
                destination,
                gateway,
            };
            attributes_of(ChangeKind::AddRoute(route, 5), 12)
        };
        let gateway = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(
            of(at([10, 1, 2, 3], 20), gateway).last(),
            Some(&(libc::RTA_DST, vec![10, 1, 0, 0]))
        );
        let default = of(at([0; 4], 0), gateway);
        assert!(default.iter().all(|(kind, _)| *kind != libc::RTA_DST));
        assert_eq!(default[0], (libc::RTA_GATEWAY, vec![10, 0, 0, 1]));
        let host = at([0xfd; 16], 128);
        assert_eq!(network(host), host.address);
        assert_eq!(network(at([0xff; 16], 0)), IpAddr::from([0_u8; 16]));
    }

    #[test]
    fn messages_name_the_interface() {
        let route = Route {
            destination: at([0; 4], 0),
            gateway: [10, 0, 0, 1].into(),
        };
        for (what, text) in [
            (ChangeKind::Rename("lan0".into()), "renaming eth0 to lan0"),
            (
                ChangeKind::SetMac([2, 0, 0, 0, 0, 0xab]),
                "setting the MAC of eth0 to 02:00:00:00:00:ab",
            ),
            (
                ChangeKind::AddAddress(at([10, 0, 0, 2], 24)),
                "adding 10.0.0.2/24 to eth0",
            ),
            (
                ChangeKind::AddRoute(route, 1),
                "adding the route 0.0.0.0/0 through 10.0.0.1 of eth0",
            ),
        ] {
            assert_eq!(change(what).to_string(), text);
        }
    }
}
