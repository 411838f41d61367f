//! Translation of addresses for an uplink (RFC 3022, RFC 4787): stations behind the router appear to the
//! other end as one, with the address of the uplink.
//!
//! A station's port has one port of the uplink, whatever it sends to; a packet for that port is for the
//! station, wherever it comes from. Ports stay the same where they are free. Of ICMP, echo requests and their
//! replies are translated by their identifier, and errors about packets that were translated.
//!
//! A question for the router's DNS server that is passed on to the one behind the uplink is answered from the
//! address that was asked.
//!
//! Checksums are changed by the difference (RFC 1624), so a damaged packet stays damaged. Fragments have no
//! ports and are dropped.

use crate::Time;
use smoltcp::wire::Ipv4Packet;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long an idle mapping of TCP is kept (RFC 5382).
const TCP_IDLE: Duration = Duration::from_secs(7_440);
/// How long it is kept after an end or a reset of its connection.
const TCP_CLOSED: Duration = Duration::from_secs(240);
/// How long an idle mapping of another protocol is kept (RFC 4787).
const OTHER_IDLE: Duration = Duration::from_secs(300);
/// Mappings of one station. One that uses more loses the older half of its own.
const PER_STATION: usize = 1024;
/// Mappings of all stations. If there are more, the older half is removed.
const ALL: usize = 16_384;
/// Ports that are given to mappings whose own port is taken: those of clients (RFC 6056).
const PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// Destination unreachable, time exceeded, parameter problem.
const ICMP_ERRORS: [u8; 3] = [3, 11, 12];
const ICMP_HEADER: usize = 8;
const TCP_FIN_OR_RST: u8 = 0b101;

/// The mappings of an uplink.
#[derive(Debug, Clone)]
pub(super) struct Nat {
    /// The address of the uplink.
    address: Ipv4Addr,
    /// The DNS server behind the uplink.
    dns: Option<Ipv4Addr>,
    mappings: BTreeMap<NatSource, Mapping>,
    /// By protocol and port of the uplink.
    outside: BTreeMap<(u8, u16), NatSource>,
    next_port: u16,
}

/// A station, the protocol, and its port or identifier.
type NatSource = (Ipv4Addr, u8, u16);

#[derive(Debug, Clone, Copy)]
struct Mapping {
    port: u16,
    last_used: Time,
    is_closed: bool,
    /// The address that the station has asked, if its last question was passed on to the DNS server.
    asked: Option<Ipv4Addr>,
}

/// Where the port and the checksum of a transport header are.
#[derive(Debug, Clone, Copy)]
struct Fields {
    protocol: u8,
    port: usize,
    checksum: usize,
    /// Whether the checksum covers the addresses.
    covers_addresses: bool,
}

/// Which end of a packet is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

impl Nat {
    pub(super) fn new(address: Ipv4Addr, dns: Option<Ipv4Addr>) -> Self {
        Self {
            address,
            dns,
            mappings: BTreeMap::new(),
            outside: BTreeMap::new(),
            next_port: *PORTS.start(),
        }
    }

    /// Translates a packet of a station, which has been checked; `false` if it cannot be.
    pub(super) fn outbound(&mut self, now: Time, packet: &mut [u8]) -> bool {
        let Some((start, fields)) = fields(packet, End::Source) else {
            return false;
        };
        let is_request = packet[start] == ECHO_REQUEST;
        if fields.protocol == ICMP && !is_request {
            return false;
        }
        let station = Ipv4Packet::new_unchecked(&*packet).src_addr();
        let inside = (station, fields.protocol, port(packet, start + fields.port));
        let Some(port) = self.map(now, inside) else {
            return false;
        };
        self.note_end(inside, packet, start);
        rewrite(packet, start, fields, End::Source, self.address, port);
        true
    }

    /// Translates a packet for the uplink, which has been checked; `false` if it is not for a station.
    pub(super) fn inbound(&mut self, now: Time, packet: &mut [u8]) -> bool {
        let Some((start, fields)) = fields(packet, End::Destination) else {
            return false;
        };
        if fields.protocol == ICMP && packet[start] != ECHO_REPLY {
            return ICMP_ERRORS.contains(&packet[start]) && self.inbound_error(packet, start);
        }
        let port = port(packet, start + fields.port);
        let Some(inside) = self.outside.get(&(fields.protocol, port)).copied() else {
            return false;
        };
        let mut asked = None;
        if let Some(mapping) = self.mappings.get_mut(&inside) {
            mapping.last_used = now;
            asked = mapping.asked;
        }
        self.note_end(inside, packet, start);
        rewrite(packet, start, fields, End::Destination, inside.0, inside.2);
        let source = Ipv4Packet::new_unchecked(&*packet).src_addr();
        if let Some(asked) = asked.filter(|_| self.dns == Some(source)) {
            replace_address(packet, End::Source, asked);
        }
        true
    }

    /// Notes that a question of a station was passed on to the DNS server, and that the station has asked `asked`.
    pub(super) fn note_redirected(&mut self, question: &[u8], asked: Ipv4Addr) {
        if let Some((start, fields)) = fields(question, End::Source) {
            let station = Ipv4Packet::new_unchecked(question).src_addr();
            let inside = (
                station,
                fields.protocol,
                port(question, start + fields.port),
            );
            if let Some(mapping) = self.mappings.get_mut(&inside) {
                mapping.asked = Some(asked);
            }
        }
    }

    /// Translates an ICMP error, with the packet that it quotes.
    fn inbound_error(&self, packet: &mut [u8], start: usize) -> bool {
        let quoted = start + ICMP_HEADER;
        let Some((offset, fields)) = packet.get(quoted..).and_then(quoted_fields) else {
            return false;
        };
        let port = port(packet, quoted + offset + fields.port);
        let Some((station, _, inside)) = self.outside.get(&(fields.protocol, port)).copied() else {
            return false;
        };
        // The quotation's own checksums are not looked at by receivers, except for that of its IP header.
        let at = quoted + offset + fields.port;
        packet[at..at + 2].copy_from_slice(&inside.to_be_bytes());
        let mut inner = Ipv4Packet::new_unchecked(&mut packet[quoted..]);
        inner.set_src_addr(station);
        inner.fill_checksum();
        let mut outer = Ipv4Packet::new_unchecked(&mut *packet);
        outer.set_dst_addr(station);
        outer.fill_checksum();
        packet[start + 2..start + 4].fill(0);
        let sum = checksum(&packet[start..]);
        packet[start + 2..start + 4].copy_from_slice(&sum.to_be_bytes());
        true
    }

    /// The port of the uplink for a station's port.
    fn map(&mut self, now: Time, inside: NatSource) -> Option<u16> {
        if let Some(mapping) = self.mappings.get_mut(&inside) {
            mapping.last_used = now;
            mapping.asked = None;
            return Some(mapping.port);
        }
        let of_station = (inside.0, 0, 0)..=(inside.0, u8::MAX, u16::MAX);
        if self.mappings.range(of_station).count() >= PER_STATION {
            self.remove_older_half(now, |(station, ..)| *station == inside.0);
        } else if self.mappings.len() >= ALL {
            self.remove_older_half(now, |_| true);
        }
        let port = self.free_port(inside.1, inside.2)?;
        let mapping = Mapping {
            port,
            last_used: now,
            is_closed: false,
            asked: None,
        };
        self.mappings.insert(inside, mapping);
        self.outside.insert((inside.1, port), inside);
        Some(port)
    }

    /// The port itself if it is free, else the next one that is.
    fn free_port(&mut self, protocol: u8, wanted: u16) -> Option<u16> {
        if wanted != 0 && !self.outside.contains_key(&(protocol, wanted)) {
            return Some(wanted);
        }
        for _ in PORTS {
            let port = self.next_port;
            self.next_port = if port == *PORTS.end() {
                *PORTS.start()
            } else {
                port + 1
            };
            if !self.outside.contains_key(&(protocol, port)) {
                return Some(port);
            }
        }
        None
    }

    /// Removes what has expired, and the older half of those for which this holds.
    fn remove_older_half(&mut self, now: Time, is_affected: impl Fn(&NatSource) -> bool) {
        let affected = self
            .mappings
            .iter()
            .filter(|(inside, _)| is_affected(inside));
        let mut times: Vec<Time> = affected.map(|(_, mapping)| mapping.last_used).collect();
        times.sort_unstable();
        let limit = times[times.len() / 2];
        self.mappings.retain(|inside, mapping| {
            let idle = now.since(mapping.last_used);
            idle < mapping.lifetime(inside.1) && (!is_affected(inside) || mapping.last_used > limit)
        });
        let Self {
            mappings, outside, ..
        } = self;
        outside.retain(|_, inside| mappings.contains_key(inside));
    }

    /// Notes whether a segment ends its connection, or opens another one from the same port.
    fn note_end(&mut self, inside: NatSource, packet: &[u8], start: usize) {
        if inside.1 == TCP
            && let Some(mapping) = self.mappings.get_mut(&inside)
            && let Some(flags) = packet.get(start + 13)
        {
            const SYN: u8 = 0b10;
            mapping.is_closed =
                (mapping.is_closed && flags & SYN == 0) || flags & TCP_FIN_OR_RST > 0;
        }
    }
}

impl Mapping {
    fn lifetime(&self, protocol: u8) -> Duration {
        match protocol {
            TCP if self.is_closed => TCP_CLOSED,
            TCP => TCP_IDLE,
            _ => OTHER_IDLE,
        }
    }
}

/// Where the transport header is, and its fields; `None` for fragments, other protocols and short headers.
fn fields(packet: &[u8], end: End) -> Option<(usize, Fields)> {
    let view = Ipv4Packet::new_checked(packet).ok()?;
    if view.more_frags() {
        return None;
    }
    let (start, fields) = located(packet, end)?;
    let needed = match fields.protocol {
        TCP => 20,
        _ => 8,
    };
    (packet.len() >= start + needed).then_some((start, fields))
}

/// The same for a packet that an ICMP error quotes: 8 bytes of its payload, at least.
fn quoted_fields(packet: &[u8]) -> Option<(usize, Fields)> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    if header < 20 || packet.len() < header + 8 {
        return None;
    }
    let (start, fields) = located(packet, End::Source)?;
    let is_request = packet[start] == ECHO_REQUEST;
    (fields.protocol != ICMP || is_request).then_some((start, fields))
}

fn located(packet: &[u8], end: End) -> Option<(usize, Fields)> {
    let view = Ipv4Packet::new_unchecked(packet);
    if view.frag_offset() > 0 {
        return None;
    }
    let port = if end == End::Source { 0 } else { 2 };
    let protocol = u8::from(view.next_header());
    let (port, checksum, covers_addresses) = match protocol {
        ICMP => (4, 2, false),
        TCP => (port, 16, true),
        UDP => (port, 6, true),
        _ => return None,
    };
    let fields = Fields {
        protocol,
        port,
        checksum,
        covers_addresses,
    };
    Some((usize::from(view.header_len()), fields))
}

fn port(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

/// Sends a packet to another address, and returns the address that it was for.
pub(super) fn redirect(packet: &mut [u8], to: Ipv4Addr) -> Option<Ipv4Addr> {
    let before = Ipv4Packet::new_checked(&*packet).ok()?.dst_addr();
    replace_address(packet, End::Destination, to);
    Some(before)
}

/// Puts another address into a packet.
fn replace_address(packet: &mut [u8], end: End, address: Ipv4Addr) {
    if let Some((start, fields)) = fields(packet, end) {
        let same = port(packet, start + fields.port);
        rewrite(packet, start, fields, end, address, same);
    }
}

/// Puts another address and port into a packet.
fn rewrite(packet: &mut [u8], start: usize, fields: Fields, end: End, address: Ipv4Addr, to: u16) {
    let mut view = Ipv4Packet::new_unchecked(&mut *packet);
    let before = match end {
        End::Source => view.src_addr(),
        End::Destination => view.dst_addr(),
    };
    match end {
        End::Source => view.set_src_addr(address),
        End::Destination => view.set_dst_addr(address),
    }
    view.fill_checksum();
    let transport = &mut packet[start..];
    let old_port = port(transport, fields.port);
    transport[fields.port..fields.port + 2].copy_from_slice(&to.to_be_bytes());
    let old = port(transport, fields.checksum);
    // Zero: the sender has not computed it.
    if fields.protocol == UDP && old == 0 {
        return;
    }
    let mut sum = adjusted(old, old_port, to);
    if fields.covers_addresses {
        let words = |address: Ipv4Addr| {
            let [a, b, c, d] = address.octets();
            [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
        };
        for (old, new) in words(before).into_iter().zip(words(address)) {
            sum = adjusted(sum, old, new);
        }
    }
    if fields.protocol == UDP && sum == 0 {
        sum = 0xffff;
    }
    transport[fields.checksum..fields.checksum + 2].copy_from_slice(&sum.to_be_bytes());
}

/// A checksum after one of the words that it covers has changed (RFC 1624, equation 3).
fn adjusted(checksum: u16, old: u16, new: u16) -> u16 {
    !folded(u32::from(!checksum) + u32::from(!old) + u32::from(new))
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| match word {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    // A packet has less than 2^15 words, so the sum has less than 2^31.
    !folded(words.sum())
}

fn folded(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::{ipv4, udp};
    use smoltcp::wire::{IpAddress, IpProtocol, TcpPacket};
    use std::net::{SocketAddr, SocketAddrV4};

    const UPLINK: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);
    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
    const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);

    fn datagram(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Vec<u8> {
        let end = |(address, port)| SocketAddr::V4(SocketAddrV4::new(address, port));
        udp::packet(end(from), end(to), b"payload").expect("short")
    }

    /// Source and destination of a datagram whose checksums are right.
    fn ends(packet: &[u8]) -> (SocketAddr, SocketAddr) {
        assert!(ipv4::checked(packet).is_some());
        let datagram = udp::in_ipv4(packet).expect("a datagram");
        (datagram.source, datagram.destination)
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_datagram_leaves_from_the_uplink_and_its_answer_returns() {
        let mut nat = Nat::new(UPLINK, None);
        let mut packet = datagram((A, 4000), (SERVER, 53));
        assert!(nat.outbound(at(0), &mut packet));
        let (source, destination) = ends(&packet);
        assert_eq!(source.to_string(), "192.0.0.2:4000");
        assert_eq!(destination.to_string(), "203.0.113.5:53");
        // Another station with the same port.
        let mut other = datagram((B, 4000), (SERVER, 53));
        assert!(nat.outbound(at(0), &mut other));
        let translated = ends(&other).0.port();
        assert_ne!(translated, 4000);
        for (port, station) in [(4000, A), (translated, B)] {
            let mut answer = datagram((SERVER, 53), (UPLINK, port));
            assert!(nat.inbound(at(1), &mut answer));
            assert_eq!(ends(&answer).1.to_string(), format!("{station}:4000"));
        }
        let mut stray = datagram((SERVER, 53), (UPLINK, 9));
        assert!(!nat.inbound(at(1), &mut stray));
    }

    #[test]
    fn a_damaged_segment_stays_damaged_and_a_good_one_stays_good() {
        for is_damaged in [false, true] {
            let mut nat = Nat::new(UPLINK, None);
            let mut segment = vec![0; 24];
            let mut tcp = TcpPacket::new_unchecked(&mut segment[..]);
            tcp.set_src_port(5000);
            tcp.set_dst_port(80);
            tcp.set_header_len(20);
            tcp.set_syn(true);
            tcp.fill_checksum(&IpAddress::from(A), &IpAddress::from(SERVER));
            segment[20] ^= u8::from(is_damaged);
            let mut packet = ipv4::compose(A, SERVER, IpProtocol::Tcp, &segment);
            assert!(nat.outbound(at(0), &mut packet));
            let tcp = TcpPacket::new_checked(&packet[20..]).expect("a segment");
            let (from, to) = (IpAddress::from(UPLINK), IpAddress::from(SERVER));
            assert_eq!(tcp.verify_checksum(&from, &to), !is_damaged);
        }
    }

    #[test]
    fn pings_and_errors_return_to_their_station() {
        let mut nat = Nat::new(UPLINK, None);
        let mut echo = vec![8, 0, 0, 0, 0, 7, 0, 1];
        let sum = checksum(&echo);
        echo[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut request = ipv4::compose(A, SERVER, IpProtocol::Icmp, &echo);
        assert!(nat.outbound(at(0), &mut request));
        let mut reply = ipv4::compose(SERVER, UPLINK, IpProtocol::Icmp, &request[20..]);
        reply[20] = 0;
        assert!(nat.inbound(at(0), &mut reply));
        assert_eq!(ipv4::ends(&reply), (SERVER, A));
        assert_eq!(reply[24..26], [0, 7]);

        let mut sent = datagram((B, 4000), (SERVER, 53));
        assert!(nat.outbound(at(0), &mut sent));
        let mut report = ipv4::error(&sent, SERVER, ipv4::Error::PortUnreachable).expect("one");
        assert!(nat.inbound(at(0), &mut report));
        assert_eq!(ipv4::ends(&report), (SERVER, B));
        assert_eq!(checksum(&report[20..]), 0);
        assert_eq!(ipv4::ends(&report[28..]), (B, SERVER));
        assert_eq!(report[48..50], 4000_u16.to_be_bytes());
    }

    #[test]
    fn an_answer_to_a_question_that_was_passed_on_comes_from_the_address_that_was_asked() {
        let mut nat = Nat::new(UPLINK, Some(SERVER));
        let router = Ipv4Addr::new(10, 0, 0, 1);
        let mut question = datagram((A, 4000), (router, 53));
        assert_eq!(redirect(&mut question, SERVER), Some(router));
        assert_eq!(ends(&question).1.to_string(), "203.0.113.5:53");
        let before = question.clone();
        assert!(nat.outbound(at(0), &mut question));
        nat.note_redirected(&before, router);
        let mut answer = datagram((SERVER, 53), (UPLINK, 4000));
        assert!(nat.inbound(at(0), &mut answer));
        assert_eq!(ends(&answer).0.to_string(), "10.0.0.1:53");
        // A question for the server itself.
        assert!(nat.outbound(at(0), &mut datagram((A, 4000), (SERVER, 53))));
        let mut answer = datagram((SERVER, 53), (UPLINK, 4000));
        assert!(nat.inbound(at(0), &mut answer));
        assert_eq!(ends(&answer).0.to_string(), "203.0.113.5:53");
    }

    #[test]
    fn packets_without_a_port_are_not_forwarded() {
        let mut nat = Nat::new(UPLINK, None);
        let mut fragment = datagram((A, 4000), (SERVER, 53));
        fragment[6] = 0x20;
        assert!(!nat.outbound(at(0), &mut fragment));
        let mut other = ipv4::compose(A, SERVER, IpProtocol::Igmp, &[0; 8]);
        assert!(!nat.outbound(at(0), &mut other));
        let mut short = ipv4::compose(A, SERVER, IpProtocol::Tcp, &[0; 19]);
        assert!(!nat.outbound(at(0), &mut short));
        assert!(nat.mappings.is_empty());
    }

    #[test]
    fn a_station_with_many_ports_displaces_its_own_mappings_only() {
        let mut nat = Nat::new(UPLINK, None);
        assert!(nat.outbound(at(0), &mut datagram((B, 4000), (SERVER, 53))));
        for port in 1..60_000 {
            let now = Time::from_nanos(port.into());
            assert!(nat.outbound(now, &mut datagram((A, port), (SERVER, 53))));
        }
        assert!(nat.mappings.len() <= PER_STATION + 1);
        assert_eq!(nat.mappings.len(), nat.outside.len());
        let mut answer = datagram((SERVER, 53), (UPLINK, 4000));
        assert!(nat.inbound(at(1), &mut answer));
        assert_eq!(*ipv4::ends(&answer).1.octets().last().expect("four"), 3);
    }

    #[test]
    fn stations_that_do_not_exist_cannot_fill_the_memory() {
        let mut nat = Nat::new(UPLINK, None);
        for n in 0..3 * ALL as u32 {
            let station = Ipv4Addr::from_bits(A.to_bits() + n);
            let now = Time::from_nanos(n.into());
            nat.outbound(now, &mut datagram((station, 4000), (SERVER, 53)));
        }
        assert!(nat.mappings.len() <= ALL);
        assert_eq!(nat.mappings.len(), nat.outside.len());
    }

    #[test]
    fn the_end_of_a_connection_shortens_the_life_of_its_mapping() {
        let mut nat = Nat::new(UPLINK, None);
        let mut segment = |flags: u8| {
            let mut segment = vec![0; 20];
            segment[..4].copy_from_slice(&[0x13, 0x88, 0, 80]);
            (segment[12], segment[13]) = (0x50, flags);
            let mut packet = ipv4::compose(A, SERVER, IpProtocol::Tcp, &segment);
            assert!(nat.outbound(at(0), &mut packet));
            let mapping = nat.mappings[&(A, TCP, 5000)];
            mapping.lifetime(TCP)
        };
        assert_eq!(segment(0b10), TCP_IDLE);
        assert_eq!(segment(0b1_0001), TCP_CLOSED);
        assert_eq!(segment(0b1_0000), TCP_CLOSED, "the last acknowledgement");
        assert_eq!(segment(0b10), TCP_IDLE, "the next connection");
    }
}
