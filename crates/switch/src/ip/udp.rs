//! UDP datagrams in IPv4 and IPv6 packets (RFC 768).

use super::{ipv4, ipv6};
use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, UdpPacket};
use std::net::{IpAddr, SocketAddr};

const HEADER: usize = 8;

/// A datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) payload: &'a [u8],
}

/// The datagram in an IPv4 packet that has been checked; `None`: something else, a fragment, or damaged.
pub(crate) fn in_ipv4(packet: &[u8]) -> Option<Datagram<'_>> {
    let view = Ipv4Packet::new_checked(packet).ok()?;
    if view.next_header() != IpProtocol::Udp || view.frag_offset() > 0 || view.more_frags() {
        return None;
    }
    datagram(
        view.src_addr().into(),
        view.dst_addr().into(),
        view.payload(),
    )
}

/// The datagram in an IPv6 packet that has been checked.
pub(crate) fn in_ipv6(packet: &[u8]) -> Option<Datagram<'_>> {
    let view = Ipv6Packet::new_checked(packet).ok()?;
    if view.next_header() != IpProtocol::Udp {
        return None;
    }
    datagram(
        view.src_addr().into(),
        view.dst_addr().into(),
        view.payload(),
    )
}

fn datagram(source: IpAddr, destination: IpAddr, bytes: &[u8]) -> Option<Datagram<'_>> {
    let udp = UdpPacket::new_checked(bytes).ok()?;
    let (from, to) = (IpAddress::from(source), IpAddress::from(destination));
    udp.verify_checksum(&from, &to).then(|| Datagram {
        source: SocketAddr::new(source, udp.src_port()),
        destination: SocketAddr::new(destination, udp.dst_port()),
        payload: &bytes[HEADER..usize::from(udp.len())],
    })
}

/// The packet of a datagram; `None` if the addresses are of different families, or the payload is too long.
pub(crate) fn packet(
    source: SocketAddr,
    destination: SocketAddr,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let length = u16::try_from(HEADER + payload.len()).ok()?;
    let mut bytes = vec![0; HEADER];
    bytes.extend(payload);
    let mut udp = UdpPacket::new_unchecked(&mut bytes[..]);
    udp.set_src_port(source.port());
    udp.set_dst_port(destination.port());
    udp.set_len(length);
    let (from, to) = (
        IpAddress::from(source.ip()),
        IpAddress::from(destination.ip()),
    );
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            udp.fill_checksum(&from, &to);
            Some(ipv4::compose(source, destination, IpProtocol::Udp, &bytes))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            udp.fill_checksum(&from, &to);
            let protocol = IpProtocol::Udp;
            Some(ipv6::compose(source, destination, protocol, &bytes, 64))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_read_as_it_was_written() {
        for (source, destination) in [
            ("10.0.0.1:53", "10.0.0.2:1234"),
            ("[fd00::1]:53", "[fd00::2]:1234"),
        ] {
            let ends = [source, destination].map(|end| end.parse::<SocketAddr>().expect("an end"));
            let [source, destination] = ends;
            let mut packet = packet(source, destination, b"data").expect("short");
            let read = |packet: &[u8]| match source {
                SocketAddr::V4(_) => in_ipv4(packet).map(|udp| udp.payload.to_vec()),
                SocketAddr::V6(_) => in_ipv6(packet).map(|udp| udp.payload.to_vec()),
            };
            assert_eq!(read(&packet).expect("a datagram"), b"data");
            let last = packet.len() - 1;
            packet[last] ^= 1;
            assert_eq!(read(&packet), None, "damaged");
        }
    }
}
