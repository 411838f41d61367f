//! The state of the kernel: interfaces, addresses, routes.

use super::session::Session;
use super::wire::{self, Message, Request};
use crate::sys::{Sys, netlink};
use provium_protocol::op::{InterfaceAddress, NicCounters, Route};
use std::net::IpAddr;

/// Lengths of the fixed parts: `struct ifinfomsg`, `ifaddrmsg`, `rtmsg`.
const LINK: usize = 16;
const ADDRESS: usize = 8;
const ROUTE: usize = 12;

const IFLA_PERM_ADDRESS: u16 = 54;
const IFLA_INET6_CONF: u16 = 2;
/// Places of `disable_ipv6` and `accept_dad` in the list of settings (the kernel's `linux/ipv6.h`).
const DISABLE_IPV6: usize = 26;
const ACCEPT_DAD: usize = 27;
const IFLA_STATS64: u16 = 23;
/// Leaves the counters out of a dump, which are half of it (`RTEXT_FILTER_SKIP_STATS`).
const WITHOUT_COUNTERS: u32 = 1 << 3;

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) name: String,
    /// `ARPHRD_ETHER` and others.
    pub(super) hardware: u16,
    pub(super) mac: Vec<u8>,
    /// The address that the device has of itself; virtual ones have none.
    pub(super) permanent_mac: Option<[u8; 6]>,
    pub(super) mtu: u32,
    pub(super) is_up: bool,
    /// It is up and has a carrier.
    pub(super) is_running: bool,
    /// `None`: it has no IPv6, because the kernel does not, or because its MTU is too small.
    pub(super) ipv6: Option<Ipv6Settings>,
    pub(super) counters: NicCounters,
}

/// Settings of IPv6, as in `/proc/sys/net/ipv6/conf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ipv6Settings {
    pub(super) is_disabled: bool,
    /// Whether an address may be used only after duplicate address detection.
    pub(super) detects_duplicates: bool,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PresentAddress {
    pub(super) index: u32,
    pub(super) address: InterfaceAddress,
}

/// A route through a gateway, in the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PresentRoute {
    pub(super) index: u32,
    pub(super) route: Route,
    pub(super) metric: u32,
}

/// All interfaces of the namespace.
pub(super) fn interfaces(session: &mut Session, with_counters: bool) -> Sys<Vec<Interface>> {
    let mask = if with_counters { 0 } else { WITHOUT_COUNTERS };
    let request = Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &[0; LINK])
        .with(libc::IFLA_EXT_MASK, &mask.to_ne_bytes());
    let mut found = session.dump(&request, interface)?;
    for interface in &mut found {
        if interface.permanent_mac.is_none() && interface.hardware == libc::ARPHRD_ETHER {
            let asked = netlink::permanent_address(session.fd(), &interface.name);
            interface.permanent_mac = asked.ok();
        }
    }
    Ok(found)
}

fn interface(message: Message<'_>) -> Option<Interface> {
    if message.kind != libc::RTM_NEWLINK {
        return None;
    }
    let payload = message.payload;
    let flags = wire::word(payload, 8)?.cast_signed();
    let mut interface = Interface {
        index: wire::word(payload, 4)?,
        name: String::new(),
        hardware: wire::half(payload, 2)?,
        mac: Vec::new(),
        permanent_mac: None,
        mtu: 0,
        is_up: flags & libc::IFF_UP != 0,
        is_running: flags & libc::IFF_RUNNING != 0,
        ipv6: None,
        counters: NicCounters::default(),
    };
    for (kind, value) in wire::attributes(payload, LINK) {
        match kind {
            libc::IFLA_IFNAME => {
                let end = value.iter().position(|byte| *byte == 0);
                let name = &value[..end.unwrap_or(value.len())];
                interface.name = String::from_utf8_lossy(name).into_owned();
            }
            libc::IFLA_ADDRESS => interface.mac = value.to_vec(),
            libc::IFLA_MTU => interface.mtu = wire::word(value, 0)?,
            IFLA_PERM_ADDRESS => interface.permanent_mac = value.try_into().ok(),
            libc::IFLA_AF_SPEC => interface.ipv6 = ipv6_settings(value),
            IFLA_STATS64 => interface.counters = counters(value)?,
            _ => {}
        }
    }
    Some(interface)
}

/// From what the address families report of an interface.
fn ipv6_settings(families: &[u8]) -> Option<Ipv6Settings> {
    let mut families = wire::attributes(families, 0);
    let (_, ipv6) = families.find(|(kind, _)| i32::from(*kind) == libc::AF_INET6)?;
    let (_, settings) = wire::attributes(ipv6, 0).find(|(kind, _)| *kind == IFLA_INET6_CONF)?;
    let is_set = |index: usize| wire::word(settings, 4 * index).is_some_and(|value| value != 0);
    Some(Ipv6Settings {
        is_disabled: is_set(DISABLE_IPV6),
        detects_duplicates: is_set(ACCEPT_DAD),
    })
}

/// `struct rtnl_link_stats64`.
fn counters(value: &[u8]) -> Option<NicCounters> {
    let field = |index: usize| wire::long(value, 8 * index);
    Some(NicCounters {
        rx_packets: field(0)?,
        tx_packets: field(1)?,
        rx_bytes: field(2)?,
        tx_bytes: field(3)?,
        errors: field(4)?.saturating_add(field(5)?),
        dropped: field(6)?.saturating_add(field(7)?),
    })
}

/// All addresses of all interfaces.
pub(super) fn addresses(session: &mut Session) -> Sys<Vec<PresentAddress>> {
    let request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; ADDRESS]);
    session.dump(&request, address)
}

fn address(message: Message<'_>) -> Option<PresentAddress> {
    if message.kind != libc::RTM_NEWADDR {
        return None;
    }
    let family = *message.payload.first()?;
    let prefix = *message.payload.get(1)?;
    let mut local = None;
    for (kind, value) in wire::attributes(message.payload, ADDRESS) {
        match kind {
            libc::IFA_LOCAL => local = ip(family, value),
            // Of a point-to-point interface this is the other end, and the local one is given, too.
            libc::IFA_ADDRESS => local = local.or_else(|| ip(family, value)),
            _ => {}
        }
    }
    let address = InterfaceAddress {
        address: local?,
        prefix,
    };
    Some(PresentAddress {
        index: wire::word(message.payload, 4)?,
        address,
    })
}

/// All routes of the main table that lead through one gateway.
pub(super) fn routes(session: &mut Session) -> Sys<Vec<PresentRoute>> {
    let request = Request::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP, &[0; ROUTE]);
    session.dump(&request, route)
}

fn route(message: Message<'_>) -> Option<PresentRoute> {
    let header: &[u8; ROUTE] = message.payload.first_chunk()?;
    let [family, prefix, _, _, table, _, _, kind, ..] = *header;
    if message.kind != libc::RTM_NEWROUTE
        || table != libc::RT_TABLE_MAIN
        || kind != libc::RTN_UNICAST
    {
        return None;
    }
    let unspecified: &[u8] = &[0; 16];
    let mut destination = ip(family, unspecified.get(..address_len(family)?)?);
    let (mut index, mut gateway, mut metric) = (None, None, 0);
    for (kind, value) in wire::attributes(message.payload, ROUTE) {
        match kind {
            libc::RTA_DST => destination = ip(family, value),
            libc::RTA_OIF => index = wire::word(value, 0),
            libc::RTA_GATEWAY => gateway = ip(family, value),
            libc::RTA_PRIORITY => metric = wire::word(value, 0)?,
            _ => {}
        }
    }
    Some(PresentRoute {
        index: index?,
        route: Route {
            destination: InterfaceAddress {
                address: destination?,
                prefix,
            },
            gateway: gateway?,
        },
        metric,
    })
}

fn address_len(family: u8) -> Option<usize> {
    match i32::from(family) {
        libc::AF_INET => Some(4),
        libc::AF_INET6 => Some(16),
        _ => None,
    }
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        libc::AF_INET6 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<T>(request: Request, parse: impl Fn(Message<'_>) -> Option<T>) -> Option<T> {
        let bytes = request.finish(1);
        parse(wire::messages(&bytes).next().unwrap())
    }

    #[test]
    fn an_interface_is_read_with_its_permanent_address_and_counters() {
        let mut fixed = [0; LINK];
        fixed[2] = 1;
        fixed[4] = 7;
        fixed[8] = 0x41;
        let figures: Vec<u8> = (1..=24_u64).flat_map(u64::to_ne_bytes).collect();
        let settings: Vec<u8> = (0..30_u32)
            .map(|place| u32::from(place == 27))
            .flat_map(u32::to_ne_bytes)
            .collect();
        // Nested attributes have the form of messages' ones.
        let nested = |kind, payload: &[u8]| {
            let bytes = Request::new(0, 0, b"").with(kind, payload).finish(0);
            bytes[16..].to_vec()
        };
        let families = nested(libc::AF_INET6 as u16, &nested(IFLA_INET6_CONF, &settings));
        let message = Request::new(libc::RTM_NEWLINK, 0, &fixed)
            .with(libc::IFLA_AF_SPEC, &families)
            .with(libc::IFLA_IFNAME, b"enp1s0\0")
            .with(libc::IFLA_MTU, &1500_u32.to_ne_bytes())
            .with(libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 9])
            .with(IFLA_PERM_ADDRESS, &[0x52, 0x54, 0, 0x70, 0x76, 1])
            .with(IFLA_STATS64, &figures);
        let expected = Interface {
            index: 7,
            name: "enp1s0".to_owned(),
            hardware: libc::ARPHRD_ETHER,
            mac: vec![2, 0, 0, 0, 0, 9],
            permanent_mac: Some([0x52, 0x54, 0, 0x70, 0x76, 1]),
            mtu: 1500,
            is_up: true,
            is_running: true,
            ipv6: Some(Ipv6Settings {
                is_disabled: false,
                detects_duplicates: true,
            }),
            counters: NicCounters {
                rx_packets: 1,
                tx_packets: 2,
                rx_bytes: 3,
                tx_bytes: 4,
                errors: 5 + 6,
                dropped: 7 + 8,
            },
        };
        assert_eq!(parsed(message, interface), Some(expected));
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        let of = |address: IpAddr, prefix| {
            let address = InterfaceAddress { address, prefix };
            Some(PresentAddress { index: 2, address })
        };
        let message = |family: i32, prefix: u8| {
            let fixed = [family as u8, prefix, 0, 0, 2, 0, 0, 0];
            Request::new(libc::RTM_NEWADDR, 0, &fixed)
        };
        let v4 = message(libc::AF_INET, 24)
            .with(libc::IFA_ADDRESS, &[10, 0, 0, 2])
            .with(libc::IFA_LOCAL, &[10, 0, 0, 1]);
        assert_eq!(parsed(v4, address), of([10, 0, 0, 1].into(), 24));
        let v6 = message(libc::AF_INET6, 64).with(libc::IFA_ADDRESS, &[0xfd; 16]);
        assert_eq!(parsed(v6, address), of([0xfd; 16].into(), 64));
        assert_eq!(parsed(message(libc::AF_INET, 24), address), None);
    }

    #[test]
    fn only_gateway_routes_of_the_main_table_are_read() {
        let fixed = |table: u8, kind: u8| [2, 16, 0, 0, table, 4, 0, kind, 0, 0, 0, 0];
        let message = |table, kind| {
            Request::new(libc::RTM_NEWROUTE, 0, &fixed(table, kind))
                .with(libc::RTA_DST, &[10, 1, 0, 0])
                .with(libc::RTA_OIF, &3_u32.to_ne_bytes())
                .with(libc::RTA_PRIORITY, &9_u32.to_ne_bytes())
        };
        let gateway = |request: Request| request.with(libc::RTA_GATEWAY, &[10, 0, 0, 1]);
        let found = parsed(gateway(message(libc::RT_TABLE_MAIN, 1)), route).unwrap();
        assert_eq!((found.index, found.metric), (3, 9));
        assert_eq!(found.route.destination.prefix, 16);
        assert_eq!(found.route.gateway, IpAddr::from([10, 0, 0, 1]));
        assert_eq!(parsed(message(libc::RT_TABLE_MAIN, 1), route), None);
        assert_eq!(
            parsed(gateway(message(libc::RT_TABLE_LOCAL, 2)), route),
            None
        );
        let default = Request::new(
            libc::RTM_NEWROUTE,
            0,
            &[10, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0],
        )
        .with(libc::RTA_OIF, &3_u32.to_ne_bytes())
        .with(libc::RTA_GATEWAY, &[0xfd; 16]);
        let found = parsed(default, route).unwrap();
        assert_eq!(found.route.destination.address, IpAddr::from([0_u8; 16]));
    }
}
