//! One line about a frame, as tcpdump prints it, and the fields that tests ask for.
//!
//! Headers that are cut off or inconsistent are described as far as they can be read.

use super::services;
use crate::{Header, MacAddress};
use smoltcp::wire::{
    ArpOperation, ArpPacket, EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv6Packet,
    IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
};
use std::fmt::Write as _;
use std::net::IpAddr;

/// What a frame contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The addresses of the frame; `None`: it has no complete header.
    pub header: Option<(MacAddress, MacAddress)>,
    /// The innermost protocol that was recognised: `"tcp"`, `"udp"`, `"icmp"`, `"icmp6"`, `"arp"`, `"ip"`,
    /// `"ip6"`, or `"0x"` with the four digits of the type field.
    pub protocol: String,
    /// The IP address that it claims to come from.
    pub source: Option<IpAddr>,
    /// The IP address that it is for.
    pub destination: Option<IpAddr>,
    /// The TCP or UDP port that it comes from.
    pub source_port: Option<u16>,
    /// The TCP or UDP port that it is for.
    pub destination_port: Option<u16>,
    /// Bytes of the frame.
    pub length: usize,
    /// One line for people.
    pub text: String,
}

/// Reads a frame as far as possible.
#[must_use]
pub fn summarize(frame: &[u8]) -> Summary {
    let mut summary = Summary {
        header: Header::of(frame).map(|header| (header.source, header.destination)),
        protocol: String::new(),
        source: None,
        destination: None,
        source_port: None,
        destination_port: None,
        length: frame.len(),
        text: String::new(),
    };
    match EthernetFrame::new_checked(frame) {
        Ok(ethernet) => summary.read_ethernet(ethernet.ethertype(), ethernet.payload()),
        Err(_) => summary.text.push_str("incomplete Ethernet header"),
    }
    let _ = write!(summary.text, ", {} bytes", frame.len());
    summary
}

impl Summary {
    fn read_ethernet(&mut self, ethertype: EthernetProtocol, payload: &[u8]) {
        match ethertype {
            EthernetProtocol::Arp => self.read_arp(payload),
            EthernetProtocol::Ipv4 => self.read_ipv4(payload),
            EthernetProtocol::Ipv6 => self.read_ipv6(payload),
            EthernetProtocol::Unknown(0x8100 | 0x88a8) if payload.len() >= 4 => {
                let tag = u16::from_be_bytes([payload[0], payload[1]]) & 0xfff;
                let inner = u16::from_be_bytes([payload[2], payload[3]]);
                let _ = write!(self.text, "vlan {tag}, ");
                // A tag within a tag within a tag … is as deep as the frame is long, divided by four.
                if matches!(inner, 0x8100 | 0x88a8) {
                    self.text.push_str("more tags");
                } else {
                    self.read_ethernet(EthernetProtocol::from(inner), &payload[4..]);
                }
            }
            EthernetProtocol::Unknown(other) => {
                self.protocol = format!("0x{other:04x}");
                let _ = write!(self.text, "ethertype {}", self.protocol);
            }
        }
    }

    fn read_arp(&mut self, payload: &[u8]) {
        "arp".clone_into(&mut self.protocol);
        let Ok(arp) = ArpPacket::new_checked(payload) else {
            self.text.push_str("ARP, incomplete");
            return;
        };
        let (Some(source), Some(target)) = (
            ipv4_of(arp.source_protocol_addr()),
            ipv4_of(arp.target_protocol_addr()),
        ) else {
            self.text.push_str("ARP of another protocol than IPv4");
            return;
        };
        (self.source, self.destination) = (Some(source), Some(target));
        let _ = match arp.operation() {
            ArpOperation::Request => write!(self.text, "ARP who-has {target} tell {source}"),
            ArpOperation::Reply => write!(self.text, "ARP reply {source} is here"),
            ArpOperation::Unknown(code) => write!(self.text, "ARP operation {code}"),
        };
    }

    fn read_ipv4(&mut self, payload: &[u8]) {
        "ip".clone_into(&mut self.protocol);
        let Ok(packet) = Ipv4Packet::new_checked(payload) else {
            self.text.push_str("IPv4, incomplete");
            return;
        };
        let (source, destination) = (packet.src_addr(), packet.dst_addr());
        (self.source, self.destination) = (Some(source.into()), Some(destination.into()));
        if packet.frag_offset() > 0 {
            let _ = write!(
                self.text,
                "IP {source} > {destination}, fragment at {}",
                packet.frag_offset()
            );
            return;
        }
        self.read_transport(packet.next_header(), packet.payload(), "IP");
    }

    fn read_ipv6(&mut self, payload: &[u8]) {
        "ip6".clone_into(&mut self.protocol);
        let Ok(packet) = Ipv6Packet::new_checked(payload) else {
            self.text.push_str("IPv6, incomplete");
            return;
        };
        (self.source, self.destination) = (
            Some(packet.src_addr().into()),
            Some(packet.dst_addr().into()),
        );
        let (mut protocol, mut payload) = (packet.next_header(), packet.payload());
        // Options come before the transport header, each with the next protocol and its length.
        while let IpProtocol::HopByHop | IpProtocol::Ipv6Route | IpProtocol::Ipv6Opts = protocol
            && let [next, length, ..] = payload
            && let Some(rest) = payload.get((usize::from(*length) + 1) * 8..)
        {
            (protocol, payload) = (IpProtocol::from(*next), rest);
        }
        self.read_transport(protocol, payload, "IP6");
    }

    fn read_transport(&mut self, protocol: IpProtocol, payload: &[u8], family: &str) {
        let (Some(source), Some(destination)) = (self.source, self.destination) else {
            return;
        };
        let mut between = |source_port: Option<u16>, destination_port: Option<u16>| {
            (self.source_port, self.destination_port) = (source_port, destination_port);
            let end = |address: IpAddr, port: Option<u16>| match port {
                Some(port) => format!("{address}.{port}"),
                None => address.to_string(),
            };
            let (source, destination) =
                (end(source, source_port), end(destination, destination_port));
            let _ = write!(self.text, "{family} {source} > {destination}: ");
        };
        match protocol {
            IpProtocol::Tcp => match TcpPacket::new_checked(payload) {
                Ok(tcp) => {
                    between(Some(tcp.src_port()), Some(tcp.dst_port()));
                    "tcp".clone_into(&mut self.protocol);
                    let _ = write!(
                        self.text,
                        "TCP [{}] seq {} ack {} win {}, {} bytes of data",
                        tcp_flags(&tcp),
                        tcp.seq_number(),
                        tcp.ack_number(),
                        tcp.window_len(),
                        tcp.payload().len()
                    );
                }
                Err(_) => {
                    between(None, None);
                    self.text.push_str("TCP, incomplete");
                }
            },
            IpProtocol::Udp => match UdpPacket::new_checked(payload) {
                Ok(udp) => {
                    between(Some(udp.src_port()), Some(udp.dst_port()));
                    "udp".clone_into(&mut self.protocol);
                    match services::describe([udp.src_port(), udp.dst_port()], udp.payload()) {
                        Some(service) => self.text.push_str(&service),
                        None => {
                            let length = udp.payload().len();
                            let _ = write!(self.text, "UDP, {length} bytes of data");
                        }
                    }
                }
                Err(_) => {
                    between(None, None);
                    self.text.push_str("UDP, incomplete");
                }
            },
            IpProtocol::Icmp => {
                between(None, None);
                "icmp".clone_into(&mut self.protocol);
                match Icmpv4Packet::new_checked(payload) {
                    Ok(icmp) => {
                        let _ = write!(self.text, "ICMP {}", icmp.msg_type());
                    }
                    Err(_) => self.text.push_str("ICMP, incomplete"),
                }
            }
            IpProtocol::Icmpv6 => {
                between(None, None);
                "icmp6".clone_into(&mut self.protocol);
                match Icmpv6Packet::new_checked(payload) {
                    Ok(icmp) => {
                        let _ = write!(self.text, "ICMP6 {}", icmp.msg_type());
                    }
                    Err(_) => self.text.push_str("ICMP6, incomplete"),
                }
            }
            other => {
                between(None, None);
                let _ = write!(self.text, "{other}");
            }
        }
    }
}

fn ipv4_of(bytes: &[u8]) -> Option<IpAddr> {
    let four: [u8; 4] = bytes.try_into().ok()?;
    Some(IpAddress::v4(four[0], four[1], four[2], four[3]).into())
}

/// As tcpdump prints them: S, F, R, P, and a dot for ACK.
fn tcp_flags(tcp: &TcpPacket<&[u8]>) -> String {
    let flags = [
        (tcp.syn(), 'S'),
        (tcp.fin(), 'F'),
        (tcp.rst(), 'R'),
        (tcp.psh(), 'P'),
        (tcp.ack(), '.'),
    ];
    flags
        .into_iter()
        .filter(|(is_set, _)| *is_set)
        .map(|(_, flag)| flag)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x52, 0, 0, 0, 0, 2, 0x52, 0, 0, 0, 0, 1];
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        frame
    }

    const IP_UDP: [u8; 32] = [
        0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IP
        0, 53, 0x30, 0x39, 0, 12, 0, 0, // UDP from 53 to 12345
        1, 2, 3, 4,
    ];

    #[test]
    fn udp_is_summarised_with_addresses_and_ports() {
        let summary = summarize(&frame(0x0800, &IP_UDP));
        assert_eq!(summary.protocol, "udp");
        assert_eq!(summary.source_port, Some(53));
        assert_eq!(summary.destination_port, Some(12_345));
        assert_eq!(
            summary.text,
            "IP 10.0.0.1.53 > 10.0.0.2.12345: UDP, 4 bytes of data, 46 bytes"
        );
    }

    #[test]
    fn a_tagged_frame_is_summarised_with_its_tag() {
        let mut payload = vec![0, 42, 0x08, 0x00];
        payload.extend(IP_UDP);
        let summary = summarize(&frame(0x8100, &payload));
        assert_eq!(summary.protocol, "udp");
        assert!(
            summary.text.starts_with("vlan 42, IP 10.0.0.1.53 >"),
            "{}",
            summary.text
        );
    }

    #[test]
    fn an_arp_request_names_both_addresses() {
        let arp = [
            0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
        ];
        let summary = summarize(&frame(0x0806, &arp));
        assert_eq!(summary.protocol, "arp");
        assert_eq!(summary.text, "ARP who-has 10.0.0.2 tell 10.0.0.1, 42 bytes");
    }

    #[test]
    fn options_of_ipv6_are_passed_over() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 16, 0, 1];
        packet.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16]);
        packet.extend([58, 0, 5, 2, 0, 0, 1, 0]);
        packet.extend([128, 0, 0, 0, 0, 1, 0, 1]);
        let summary = summarize(&frame(0x86dd, &packet));
        assert_eq!(summary.protocol, "icmp6");
        assert_eq!(
            summary.text,
            "IP6 fe80::1 > ff02::16: ICMP6 echo request, 70 bytes"
        );
    }

    #[test]
    fn what_is_cut_off_is_described_as_far_as_possible() {
        let whole = frame(0x0800, &IP_UDP);
        for length in 0..whole.len() {
            let summary = summarize(&whole[..length]);
            assert!(summary.text.contains("incomplete") || summary.text.contains("> 10.0.0.2"));
        }
        assert_eq!(summarize(&[]).header, None);
    }

    #[test]
    fn an_unknown_type_is_shown_as_a_number() {
        assert_eq!(
            summarize(&frame(0x88cc, b"lldp")).text,
            "ethertype 0x88cc, 18 bytes"
        );
    }
}
