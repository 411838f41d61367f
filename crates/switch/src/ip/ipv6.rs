//! IPv6 packets: forwarding, errors and neighbour discovery (RFC 8200, 4443, 4861).

use crate::MacAddress;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr,
    NdiscNeighborFlags, NdiscRepr,
};
use std::net::Ipv6Addr;

/// Bytes of an error's packet, at most: what every link carries.
const ERROR_LIMIT: usize = 1_280;
const HEADER: usize = 40;
const ICMP_HEADER: usize = 8;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// An error that is reported to the sender of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Error {
    NoRoute,
    AddressUnreachable,
    PortUnreachable,
    PacketTooBig { mtu: usize },
    TimeExceeded,
}

impl Error {
    /// Type, code and the second word of the ICMPv6 header.
    fn header(self) -> (u8, u8, u32) {
        match self {
            Self::NoRoute => (1, 0, 0),
            Self::AddressUnreachable => (1, 3, 0),
            Self::PortUnreachable => (1, 4, 0),
            Self::PacketTooBig { mtu } => (2, 0, u32::try_from(mtu).unwrap_or(u32::MAX)),
            Self::TimeExceeded => (3, 0, 0),
        }
    }
}

/// What a station says or asks about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Discovery {
    /// Who has the address.
    Solicitation {
        target: Ipv6Addr,
        sender: Option<MacAddress>,
    },
    /// The address is at this station.
    Advertisement { target: Ipv6Addr, at: MacAddress },
}

/// A packet with no bytes behind it; `None` for one to ignore.
pub(crate) fn checked(payload: &[u8]) -> Option<Vec<u8>> {
    let packet = Ipv6Packet::new_checked(payload).ok()?;
    (packet.version() == 6).then(|| payload[..packet.total_len()].to_vec())
}

/// Source and destination of a packet that has been checked.
pub(crate) fn ends(packet: &[u8]) -> (Ipv6Addr, Ipv6Addr) {
    let view = Ipv6Packet::new_unchecked(packet);
    (view.src_addr(), view.dst_addr())
}

/// Takes one hop off a packet; `false` if none is left.
pub(crate) fn take_hop(packet: &mut [u8]) -> bool {
    let mut packet = Ipv6Packet::new_unchecked(packet);
    if packet.hop_limit() <= 1 {
        return false;
    }
    packet.set_hop_limit(packet.hop_limit() - 1);
    true
}

/// The report of an error about `packet`, from `source`; `None` where none may be sent: about other errors,
/// and packets from groups or to them (RFC 4443, 2.4).
pub(crate) fn error(about: &[u8], source: Ipv6Addr, error: Error) -> Option<Vec<u8>> {
    let packet = Ipv6Packet::new_checked(about).ok()?;
    let (from, to) = (packet.src_addr(), packet.dst_addr());
    if from.is_multicast() || from.is_unspecified() || to.is_multicast() {
        return None;
    }
    let is_error = packet.next_header() == IpProtocol::Icmpv6
        && packet.payload().first().is_none_or(|kind| *kind < 128);
    if is_error {
        return None;
    }
    let quoted = &about[..about.len().min(ERROR_LIMIT - HEADER - ICMP_HEADER)];
    let (kind, code, word) = error.header();
    let mut message = vec![kind, code, 0, 0];
    message.extend(word.to_be_bytes());
    message.extend(quoted);
    Icmpv6Packet::new_unchecked(&mut message[..]).fill_checksum(&source, &from);
    Some(compose(source, from, IpProtocol::Icmpv6, &message, 64))
}

/// The answer to an echo request that is for the router; `None` if the packet is something else.
pub(crate) fn echo_reply(packet: &[u8]) -> Option<Vec<u8>> {
    let request = Ipv6Packet::new_checked(packet).ok()?;
    let (from, to) = (request.src_addr(), request.dst_addr());
    if request.next_header() != IpProtocol::Icmpv6 {
        return None;
    }
    let icmp = Icmpv6Packet::new_checked(request.payload()).ok()?;
    if u8::from(icmp.msg_type()) != 128 || !icmp.verify_checksum(&from, &to) {
        return None;
    }
    let mut message = request.payload().to_vec();
    message[0] = 129;
    Icmpv6Packet::new_unchecked(&mut message[..]).fill_checksum(&to, &from);
    Some(compose(to, from, IpProtocol::Icmpv6, &message, 64))
}

/// The neighbour message of a packet, if it is one.
pub(crate) fn discovery(packet: &[u8]) -> Option<Discovery> {
    let view = Ipv6Packet::new_checked(packet).ok()?;
    // A packet that has passed a router cannot be a neighbour's (RFC 4861, 7.1).
    if view.next_header() != IpProtocol::Icmpv6 || view.hop_limit() != 255 {
        return None;
    }
    let icmp = Icmpv6Packet::new_checked(view.payload()).ok()?;
    let capabilities = ChecksumCapabilities::default();
    let parsed = Icmpv6Repr::parse(&view.src_addr(), &view.dst_addr(), &icmp, &capabilities);
    let mac = |bytes: &[u8]| {
        bytes
            .first_chunk()
            .map(|bytes: &[u8; 6]| MacAddress(*bytes))
    };
    match parsed.ok()? {
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
            target_addr,
            lladdr,
        }) => Some(Discovery::Solicitation {
            target: target_addr,
            sender: lladdr.and_then(|address| mac(address.as_bytes())),
        }),
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
            target_addr,
            lladdr,
            ..
        }) => Some(Discovery::Advertisement {
            target: target_addr,
            at: lladdr.and_then(|address| mac(address.as_bytes()))?,
        }),
        _ => None,
    }
}

/// The question who has an address.
pub(crate) fn solicitation(source: Ipv6Addr, mac: MacAddress, target: Ipv6Addr) -> Vec<u8> {
    let message = NdiscRepr::NeighborSolicit {
        target_addr: target,
        lladdr: Some(EthernetAddress(mac.0).into()),
    };
    ndisc(source, solicited_node(target), message)
}

/// The answer to the question who has an address of the router.
pub(crate) fn advertisement(target: Ipv6Addr, mac: MacAddress, to: Ipv6Addr) -> Vec<u8> {
    let is_probe = to.is_unspecified();
    let mut flags = NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::OVERRIDE;
    flags.set(NdiscNeighborFlags::SOLICITED, !is_probe);
    let message = NdiscRepr::NeighborAdvert {
        flags,
        target_addr: target,
        lladdr: Some(EthernetAddress(mac.0).into()),
    };
    ndisc(target, if is_probe { ALL_NODES } else { to }, message)
}

/// The group that a station with this address listens to (RFC 4291, 2.7.1).
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (a & 0xff), b)
}

/// The Ethernet address of a group (RFC 2464, 7).
pub(crate) fn group_mac(group: Ipv6Addr) -> MacAddress {
    let [.., a, b, c, d] = group.octets();
    MacAddress([0x33, 0x33, a, b, c, d])
}

fn ndisc(source: Ipv6Addr, destination: Ipv6Addr, message: NdiscRepr) -> Vec<u8> {
    let message = Icmpv6Repr::Ndisc(message);
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(
        &source,
        &destination,
        &mut Icmpv6Packet::new_unchecked(&mut bytes[..]),
        &ChecksumCapabilities::default(),
    );
    compose(source, destination, IpProtocol::Icmpv6, &bytes, 255)
}

/// A packet of the router itself.
pub(crate) fn compose(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: IpProtocol,
    payload: &[u8],
    hop_limit: u8,
) -> Vec<u8> {
    let header = Ipv6Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: protocol,
        payload_len: payload.len(),
        hop_limit,
    };
    let mut packet = vec![0; HEADER + payload.len()];
    header.emit(&mut Ipv6Packet::new_unchecked(&mut packet[..]));
    packet[HEADER..].copy_from_slice(payload);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);
    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0xfe);
    const MAC: MacAddress = MacAddress::local(1);

    fn echo_request() -> Vec<u8> {
        let mut message = vec![128, 0, 0, 0, 0, 1, 0, 2];
        message.extend(b"data");
        Icmpv6Packet::new_unchecked(&mut message[..]).fill_checksum(&A, &ROUTER);
        compose(A, ROUTER, IpProtocol::Icmpv6, &message, 64)
    }

    #[test]
    fn an_echo_request_is_answered() {
        let reply = echo_reply(&echo_request()).expect("an answer");
        let view = Ipv6Packet::new_checked(&reply[..]).expect("a packet");
        assert_eq!((view.src_addr(), view.dst_addr()), (ROUTER, A));
        let icmp = Icmpv6Packet::new_checked(view.payload()).expect("a message");
        assert!(icmp.verify_checksum(&ROUTER, &A));
        assert_eq!(echo_reply(&reply), None);
    }

    #[test]
    fn questions_and_answers_about_neighbours_are_understood() {
        let question = solicitation(ROUTER, MAC, A);
        let expected = Discovery::Solicitation {
            target: A,
            sender: Some(MAC),
        };
        assert_eq!(discovery(&question), Some(expected));
        let answer = advertisement(ROUTER, MAC, A);
        let expected = Discovery::Advertisement {
            target: ROUTER,
            at: MAC,
        };
        assert_eq!(discovery(&answer), Some(expected));
        let mut forwarded = answer;
        forwarded[7] = 254;
        assert_eq!(discovery(&forwarded), None);
    }

    #[test]
    fn groups_have_the_addresses_of_the_rfcs() {
        let address: Ipv6Addr = "fd00::1:2:abcd:ef01".parse().expect("an address");
        let group = solicited_node(address);
        assert_eq!(group.to_string(), "ff02::1:ffcd:ef01");
        assert_eq!(group_mac(group).to_string(), "33:33:ff:cd:ef:01");
    }

    #[test]
    fn too_big_packets_are_reported_with_the_mtu() {
        let other = "fd00:2::1".parse().expect("an address");
        let packet = compose(A, other, IpProtocol::Icmpv6, &[128; 2_000], 64);
        let report = error(&packet, ROUTER, Error::PacketTooBig { mtu: 1_400 }).expect("a report");
        assert_eq!(report.len(), ERROR_LIMIT);
        assert_eq!(report[40..42], [2, 0]);
        assert_eq!(report[44..48], 1_400_u32.to_be_bytes());
        assert_eq!(error(&report, ROUTER, Error::TimeExceeded), None);
    }
}
