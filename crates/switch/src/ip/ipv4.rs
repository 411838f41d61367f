//! IPv4 packets: forwarding, fragments and errors (RFC 791, 792, 1812).

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Icmpv4Packet, IpProtocol, Ipv4Packet, Ipv4Repr};
use std::net::Ipv4Addr;

/// Bytes of an ICMP error's IP packet, at most (RFC 1812, 4.3.2.3).
const ERROR_LIMIT: usize = 576;
const HEADER: usize = 20;
const ICMP_HEADER: usize = 8;

/// An error that is reported to the sender of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Error {
    NetworkUnreachable,
    HostUnreachable,
    PortUnreachable,
    FragmentationNeeded { mtu: usize },
    TimeExceeded,
}

impl Error {
    /// Type, code and the second word of the ICMP header.
    fn header(self) -> (u8, u8, u32) {
        match self {
            Self::NetworkUnreachable => (3, 0, 0),
            Self::HostUnreachable => (3, 1, 0),
            Self::PortUnreachable => (3, 3, 0),
            Self::FragmentationNeeded { mtu } => (3, 4, u32::try_from(mtu).unwrap_or(0xffff)),
            Self::TimeExceeded => (11, 0, 0),
        }
    }
}

/// A packet with a valid header and no bytes behind it; `None` for one to ignore.
pub(crate) fn checked(payload: &[u8]) -> Option<Vec<u8>> {
    let packet = Ipv4Packet::new_checked(payload).ok()?;
    let is_valid = packet.version() == 4 && packet.verify_checksum();
    is_valid.then(|| payload[..usize::from(packet.total_len())].to_vec())
}

/// Source and destination of a packet that has been checked.
pub(crate) fn ends(packet: &[u8]) -> (Ipv4Addr, Ipv4Addr) {
    let view = Ipv4Packet::new_unchecked(packet);
    (view.src_addr(), view.dst_addr())
}

/// Takes one hop off a packet; `false` if none is left.
pub(crate) fn take_hop(packet: &mut [u8]) -> bool {
    let mut packet = Ipv4Packet::new_unchecked(packet);
    if packet.hop_limit() <= 1 {
        return false;
    }
    packet.set_hop_limit(packet.hop_limit() - 1);
    packet.fill_checksum();
    true
}

/// Whether an interface can send the packet, in pieces if necessary.
pub(crate) fn check_length(packet: &[u8], mtu: usize) -> Result<(), Error> {
    let view = Ipv4Packet::new_unchecked(packet);
    let has_room = piece_length(packet, mtu) > 0;
    if packet.len() <= mtu || (!view.dont_frag() && has_room) {
        Ok(())
    } else {
        Err(Error::FragmentationNeeded { mtu })
    }
}

/// Bytes of the payload of all pieces but the last: multiples of 8.
fn piece_length(packet: &[u8], mtu: usize) -> usize {
    let header = usize::from(Ipv4Packet::new_unchecked(packet).header_len());
    mtu.saturating_sub(header) / 8 * 8
}

/// The packet in pieces that an interface can send. Its length has been checked.
pub(crate) fn fragments(packet: Vec<u8>, mtu: usize) -> Vec<Vec<u8>> {
    let size = piece_length(&packet, mtu);
    if packet.len() <= mtu || size == 0 {
        return vec![packet];
    }
    let whole = Ipv4Packet::new_unchecked(&packet[..]);
    let header = usize::from(whole.header_len());
    let (offset, has_more) = (whole.frag_offset(), whole.more_frags());
    let pieces: Vec<&[u8]> = packet[header..].chunks(size).collect();
    let count = pieces.len();
    let fragments = pieces.into_iter().enumerate().map(|(at, piece)| {
        let mut fragment = [&packet[..header], piece].concat();
        let length = fragment.len();
        let mut view = Ipv4Packet::new_unchecked(&mut fragment[..]);
        view.set_total_len(u16::try_from(length).unwrap_or(u16::MAX));
        view.set_frag_offset(offset.saturating_add(u16::try_from(at * size).unwrap_or(u16::MAX)));
        view.set_more_frags(has_more || at + 1 < count);
        view.fill_checksum();
        fragment
    });
    fragments.collect()
}

/// The report of an error about `packet`, from `source`; `None` where none may be sent: about other errors,
/// later fragments, and packets to or from groups (RFC 1812, 4.3.2.7).
pub(crate) fn error(about: &[u8], source: Ipv4Addr, error: Error) -> Option<Vec<u8>> {
    let packet = Ipv4Packet::new_checked(about).ok()?;
    let (from, to) = (packet.src_addr(), packet.dst_addr());
    let is_group = |address: Ipv4Addr| address.is_multicast() || address.is_broadcast();
    if packet.frag_offset() > 0 || is_group(to) || is_group(from) || from.is_unspecified() {
        return None;
    }
    let is_error = packet.next_header() == IpProtocol::Icmp
        && packet
            .payload()
            .first()
            .is_none_or(|kind| !matches!(kind, 0 | 8 | 13 | 14));
    if is_error {
        return None;
    }
    let quoted = &about[..about.len().min(ERROR_LIMIT - HEADER - ICMP_HEADER)];
    let (kind, code, word) = error.header();
    let mut message = vec![kind, code, 0, 0];
    message.extend(word.to_be_bytes());
    message.extend(quoted);
    Icmpv4Packet::new_unchecked(&mut message[..]).fill_checksum();
    Some(compose(source, from, IpProtocol::Icmp, &message))
}

/// The answer to an echo request that is for the router; `None` if the packet is something else.
pub(crate) fn echo_reply(packet: &[u8]) -> Option<Vec<u8>> {
    let request = Ipv4Packet::new_checked(packet).ok()?;
    let is_icmp = request.next_header() == IpProtocol::Icmp;
    if !is_icmp || request.frag_offset() > 0 || request.more_frags() {
        return None;
    }
    let icmp = Icmpv4Packet::new_checked(request.payload()).ok()?;
    if u8::from(icmp.msg_type()) != 8 || !icmp.verify_checksum() {
        return None;
    }
    let mut message = request.payload().to_vec();
    message[0] = 0;
    Icmpv4Packet::new_unchecked(&mut message[..]).fill_checksum();
    Some(compose(
        request.dst_addr(),
        request.src_addr(),
        IpProtocol::Icmp,
        &message,
    ))
}

/// A packet of the router itself.
pub(crate) fn compose(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: IpProtocol,
    payload: &[u8],
) -> Vec<u8> {
    let header = Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: protocol,
        payload_len: payload.len(),
        hop_limit: 64,
    };
    let mut packet = vec![0; HEADER + payload.len()];
    header.emit(
        &mut Ipv4Packet::new_unchecked(&mut packet[..]),
        &ChecksumCapabilities::default(),
    );
    packet[HEADER..].copy_from_slice(payload);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
    const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

    fn datagram(payload: &[u8]) -> Vec<u8> {
        compose(A, B, IpProtocol::Udp, payload)
    }

    fn allowing_fragments(payload: &[u8]) -> Vec<u8> {
        let mut packet = datagram(payload);
        let mut view = Ipv4Packet::new_unchecked(&mut packet[..]);
        view.set_dont_frag(false);
        view.fill_checksum();
        packet
    }

    #[test]
    fn a_hop_is_taken_off_and_the_checksum_stays_right() {
        let mut packet = datagram(b"payload");
        assert!(take_hop(&mut packet));
        let view = Ipv4Packet::new_checked(&packet[..]).expect("a packet");
        assert_eq!(view.hop_limit(), 63);
        assert!(view.verify_checksum());
        packet[8] = 1;
        assert!(!take_hop(&mut packet));
    }

    #[test]
    fn fragments_have_the_bytes_of_the_whole() {
        let payload: Vec<u8> = (0..3_000_u32).map(|n| n as u8).collect();
        let pieces = fragments(allowing_fragments(&payload), 1_280);
        let mut whole = vec![0; payload.len()];
        for (at, piece) in pieces.iter().enumerate() {
            assert!(piece.len() <= 1_280);
            let view = Ipv4Packet::new_checked(&piece[..]).expect("a packet");
            assert!(view.verify_checksum());
            assert_eq!(view.more_frags(), at + 1 < pieces.len());
            let start = usize::from(view.frag_offset());
            whole[start..start + view.payload().len()].copy_from_slice(view.payload());
        }
        assert_eq!(pieces.len(), 3);
        assert_eq!(check_length(&allowing_fragments(&payload), 1_280), Ok(()));
        assert_eq!(whole, payload);
    }

    #[test]
    fn fragments_of_a_fragment_continue_its_offset() {
        let payload = [7; 2_400];
        let first = fragments(allowing_fragments(&payload), 1_500);
        let second = fragments(first[1].clone(), 500);
        let view = Ipv4Packet::new_checked(&second[1][..]).expect("a packet");
        assert_eq!(view.frag_offset(), 1_480 + 480);
        let last = second.last().expect("some");
        assert!(!Ipv4Packet::new_unchecked(&last[..]).more_frags());
    }

    #[test]
    fn what_must_not_be_fragmented_is_reported_with_the_mtu() {
        let packet = datagram(&[0; 2_000]);
        let why = check_length(&packet, 1_400).expect_err("not allowed");
        assert_eq!(why, Error::FragmentationNeeded { mtu: 1_400 });
        let report = error(&packet, ROUTER, why).expect("a report");
        let view = Ipv4Packet::new_checked(&report[..]).expect("a packet");
        assert_eq!((view.src_addr(), view.dst_addr()), (ROUTER, A));
        let icmp = Icmpv4Packet::new_checked(view.payload()).expect("a message");
        assert!(icmp.verify_checksum());
        assert_eq!(view.payload()[..2], [3, 4]);
        assert_eq!(view.payload()[6..8], 1_400_u16.to_be_bytes());
        assert_eq!(view.payload()[8..], packet[..548]);
        assert_eq!(report.len(), ERROR_LIMIT);
    }

    #[test]
    fn errors_are_not_reported_about_errors_and_groups() {
        let report = error(&datagram(b"x"), ROUTER, Error::TimeExceeded).expect("a report");
        assert_eq!(error(&report, ROUTER, Error::TimeExceeded), None);
        let to_group = compose(A, Ipv4Addr::new(224, 0, 0, 1), IpProtocol::Udp, b"x");
        assert_eq!(error(&to_group, ROUTER, Error::TimeExceeded), None);
    }

    #[test]
    fn an_echo_request_is_answered_with_its_data() {
        let mut message = vec![8, 0, 0, 0, 0, 1, 0, 2];
        message.extend(b"data");
        Icmpv4Packet::new_unchecked(&mut message[..]).fill_checksum();
        let request = compose(A, ROUTER, IpProtocol::Icmp, &message);
        let reply = echo_reply(&request).expect("an answer");
        let view = Ipv4Packet::new_checked(&reply[..]).expect("a packet");
        assert_eq!((view.src_addr(), view.dst_addr()), (ROUTER, A));
        assert_eq!(view.payload()[0], 0);
        assert_eq!(view.payload()[4..], message[4..]);
        assert!(Icmpv4Packet::new_unchecked(view.payload()).verify_checksum());
        assert_eq!(echo_reply(&reply), None);
    }
}
