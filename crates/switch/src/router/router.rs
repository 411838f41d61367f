//! The router.

use super::interface::{InterfaceId, InterfaceSettings};
use super::neighbors::{Due, Neighbors};
use super::{ipv4, ipv6};
use crate::{Header, MacAddress, Time};
use bytes::Bytes;
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, Ipv6Packet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// A router; see the [module](super). Times that it is given must not decrease.
#[derive(Debug, Clone, Default)]
pub struct Router {
    interfaces: Vec<InterfaceSettings>,
    neighbors: Neighbors,
}

/// A frame that the router sends from one of its interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The interface.
    pub interface: InterfaceId,
    /// The frame.
    pub frame: Bytes,
}

impl Router {
    /// Adds an interface.
    pub fn add_interface(&mut self, settings: InterfaceSettings) -> InterfaceId {
        self.interfaces.push(settings);
        InterfaceId(self.interfaces.len() - 1)
    }

    /// Takes a frame that has arrived at an interface, and appends what follows from it to `out`.
    pub fn receive(&mut self, now: Time, at: InterfaceId, frame: &[u8], out: &mut Vec<Forwarded>) {
        let Some(interface) = self.interfaces.get(at.0) else {
            return;
        };
        let (Some(header), Some(ethertype)) = (Header::of(frame), frame.get(12..14)) else {
            return;
        };
        if header.destination != interface.mac && !header.destination.is_group() {
            return;
        }
        let payload = &frame[14..];
        match u16::from_be_bytes([ethertype[0], ethertype[1]]) {
            ARP => self.receive_arp(now, at, payload, out),
            IPV4 => self.receive_ipv4(now, header, payload, out),
            IPV6 => self.receive_ipv6(now, at, header, payload, out),
            _ => {}
        }
    }

    /// When [`Router::advance`] has something to do; `None` if no packet waits.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        self.neighbors.next_due()
    }

    /// Asks stations again that have not answered, and reports packets that cannot be delivered.
    pub fn advance(&mut self, now: Time, out: &mut Vec<Forwarded>) {
        for due in self.neighbors.take_due(now) {
            match due {
                Due::Ask((at, address)) => self.ask(at, address, out),
                Due::Unreachable((_, IpAddr::V4(_)), packets) => {
                    for packet in packets {
                        self.report_v4(now, &packet, ipv4::Error::HostUnreachable, out);
                    }
                }
                Due::Unreachable((_, IpAddr::V6(_)), packets) => {
                    for packet in packets {
                        self.report_v6(now, &packet, ipv6::Error::AddressUnreachable, out);
                    }
                }
            }
        }
    }

    fn receive_arp(
        &mut self,
        now: Time,
        at: InterfaceId,
        payload: &[u8],
        out: &mut Vec<Forwarded>,
    ) {
        let parsed = ArpPacket::new_checked(payload).and_then(|packet| ArpRepr::parse(&packet));
        let Ok(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        }) = parsed
        else {
            return;
        };
        let (sender, station) = (MacAddress(source_hardware_addr.0), source_protocol_addr);
        let interface = &self.interfaces[at.0];
        let is_for_us = interface.owns(target_protocol_addr.into());
        let mac = interface.mac;
        // Only stations of the subnet, and not one that claims the router's own address.
        let is_neighbor =
            interface.route_to(station.into()).is_some() && !interface.owns(station.into());
        if is_for_us && is_neighbor {
            self.learn(now, at, station.into(), sender, out);
        }
        if is_for_us && operation == ArpOperation::Request {
            let reply = ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply,
                source_hardware_addr: EthernetAddress(mac.0),
                source_protocol_addr: target_protocol_addr,
                target_hardware_addr: source_hardware_addr,
                target_protocol_addr: source_protocol_addr,
            };
            out.push(self.framed(at, sender, ARP, &arp_bytes(&reply)));
        }
    }

    fn receive_ipv4(
        &mut self,
        now: Time,
        header: Header,
        payload: &[u8],
        out: &mut Vec<Forwarded>,
    ) {
        let Some(mut packet) = ipv4::checked(payload) else {
            return;
        };
        let destination = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
        if self.owns(destination.into()) {
            if let Some(reply) = ipv4::echo_reply(&packet) {
                self.send_v4(now, reply, out);
            }
            return;
        }
        if header.destination.is_group() || destination.is_multicast() || destination.is_broadcast()
        {
            return;
        }
        if ipv4::take_hop(&mut packet) {
            self.send_v4(now, packet, out);
        } else {
            self.report_v4(now, &packet, ipv4::Error::TimeExceeded, out);
        }
    }

    fn receive_ipv6(
        &mut self,
        now: Time,
        at: InterfaceId,
        header: Header,
        payload: &[u8],
        out: &mut Vec<Forwarded>,
    ) {
        let Some(mut packet) = ipv6::checked(payload) else {
            return;
        };
        let (source, destination) = ends_v6(&packet);
        if let Some(discovery) = ipv6::discovery(&packet) {
            return self.discover(now, at, source, discovery, out);
        }
        if self.owns(destination.into()) {
            if let Some(reply) = ipv6::echo_reply(&packet) {
                self.send_v6(now, at, reply, out);
            }
            return;
        }
        let is_local = destination.is_unicast_link_local() || source.is_unicast_link_local();
        if header.destination.is_group() || destination.is_multicast() || is_local {
            return;
        }
        if ipv6::take_hop(&mut packet) {
            self.send_v6(now, at, packet, out);
        } else {
            self.report_v6(now, &packet, ipv6::Error::TimeExceeded, out);
        }
    }

    fn discover(
        &mut self,
        now: Time,
        at: InterfaceId,
        source: Ipv6Addr,
        discovery: ipv6::Discovery,
        out: &mut Vec<Forwarded>,
    ) {
        let interface = &self.interfaces[at.0];
        match discovery {
            ipv6::Discovery::Solicitation { target, sender } => {
                if !interface.owns(target.into()) {
                    return;
                }
                let answer = ipv6::advertisement(target, interface.mac, source);
                let to = match sender {
                    Some(sender) if !source.is_unspecified() => {
                        self.learn(now, at, source.into(), sender, out);
                        sender
                    }
                    _ => ipv6::group_mac(ends_v6(&answer).1),
                };
                out.push(self.framed(at, to, IPV6, &answer));
            }
            ipv6::Discovery::Advertisement { target, at: mac } => {
                if !interface.owns(target.into()) {
                    self.learn(now, at, target.into(), mac, out);
                }
            }
        }
    }

    /// Notes where a station is, and sends what waited for it.
    fn learn(
        &mut self,
        now: Time,
        at: InterfaceId,
        station: IpAddr,
        mac: MacAddress,
        out: &mut Vec<Forwarded>,
    ) {
        let ethertype = if station.is_ipv4() { IPV4 } else { IPV6 };
        for packet in self.neighbors.learn(now, (at, station), mac) {
            out.push(self.framed(at, mac, ethertype, &packet));
        }
    }

    fn send_v4(&mut self, now: Time, packet: Vec<u8>, out: &mut Vec<Forwarded>) {
        let destination = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
        let Some(to) = self.route(destination.into()) else {
            return self.report_v4(now, &packet, ipv4::Error::NetworkUnreachable, out);
        };
        match ipv4::fragments(packet.clone(), self.interfaces[to.0].mtu) {
            Ok(pieces) => {
                for piece in pieces {
                    self.transmit(now, to, destination.into(), piece, out);
                }
            }
            Err(why) => self.report_v4(now, &packet, why, out),
        }
    }

    /// `at`: the interface that the packet or its cause came from, for link-local destinations.
    fn send_v6(&mut self, now: Time, at: InterfaceId, packet: Vec<u8>, out: &mut Vec<Forwarded>) {
        let (_, destination) = ends_v6(&packet);
        let to = if destination.is_unicast_link_local() {
            Some(at)
        } else {
            self.route(destination.into())
        };
        let Some(to) = to else {
            return self.report_v6(now, &packet, ipv6::Error::NoRoute, out);
        };
        let mtu = self.interfaces[to.0].mtu;
        if packet.len() > mtu {
            return self.report_v6(now, &packet, ipv6::Error::PacketTooBig { mtu }, out);
        }
        self.transmit(now, to, destination.into(), packet, out);
    }

    /// Sends a packet from an interface to a station of its subnet.
    fn transmit(
        &mut self,
        now: Time,
        to: InterfaceId,
        station: IpAddr,
        packet: Vec<u8>,
        out: &mut Vec<Forwarded>,
    ) {
        let ethertype = if station.is_ipv4() { IPV4 } else { IPV6 };
        match self.neighbors.look_up(now, (to, station)) {
            Some(mac) => out.push(self.framed(to, mac, ethertype, &packet)),
            None => {
                if self.neighbors.hold(now, (to, station), packet) {
                    self.ask(to, station, out);
                }
            }
        }
    }

    /// Asks the stations of an interface who has an address.
    fn ask(&self, at: InterfaceId, address: IpAddr, out: &mut Vec<Forwarded>) {
        let interface = &self.interfaces[at.0];
        match address {
            IpAddr::V4(target) => {
                let Some((own, _)) = interface.ipv4 else {
                    return;
                };
                let request = ArpRepr::EthernetIpv4 {
                    operation: ArpOperation::Request,
                    source_hardware_addr: EthernetAddress(interface.mac.0),
                    source_protocol_addr: own,
                    target_hardware_addr: EthernetAddress([0; 6]),
                    target_protocol_addr: target,
                };
                out.push(self.framed(at, MacAddress::BROADCAST, ARP, &arp_bytes(&request)));
            }
            IpAddr::V6(target) => {
                let own = interface
                    .ipv6
                    .map_or(interface.link_local(), |(own, _)| own);
                let group = ipv6::group_mac(ipv6::solicited_node(target));
                let question = ipv6::solicitation(own, interface.mac, target);
                out.push(self.framed(at, group, IPV6, &question));
            }
        }
    }

    /// Tells the sender of a packet what is wrong with it, from the interface on the way to it.
    fn report_v4(&mut self, now: Time, about: &[u8], why: ipv4::Error, out: &mut Vec<Forwarded>) {
        let sender = Ipv4Addr::new(about[12], about[13], about[14], about[15]);
        let Some(to) = self.route(sender.into()) else {
            return;
        };
        let Some((own, _)) = self.interfaces[to.0].ipv4 else {
            return;
        };
        if let Some(report) = ipv4::error(about, own, why) {
            self.transmit(now, to, sender.into(), report, out);
        }
    }

    fn report_v6(&mut self, now: Time, about: &[u8], why: ipv6::Error, out: &mut Vec<Forwarded>) {
        let (sender, _) = ends_v6(about);
        let Some(to) = self.route(sender.into()) else {
            return;
        };
        let Some((own, _)) = self.interfaces[to.0].ipv6 else {
            return;
        };
        if let Some(report) = ipv6::error(about, own, why) {
            self.transmit(now, to, sender.into(), report, out);
        }
    }

    fn owns(&self, address: IpAddr) -> bool {
        self.interfaces
            .iter()
            .any(|interface| interface.owns(address))
    }

    /// The interface whose subnet has the address; the smallest subnet, if several have it.
    fn route(&self, address: IpAddr) -> Option<InterfaceId> {
        let routes = self.interfaces.iter().enumerate();
        let routes = routes.filter_map(|(id, interface)| Some((interface.route_to(address)?, id)));
        routes
            .max_by_key(|(length, _)| *length)
            .map(|(_, id)| InterfaceId(id))
    }

    fn framed(
        &self,
        from: InterfaceId,
        to: MacAddress,
        ethertype: u16,
        payload: &[u8],
    ) -> Forwarded {
        let mut frame = Vec::with_capacity(14 + payload.len());
        frame.extend(to.0);
        frame.extend(self.interfaces[from.0].mac.0);
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        Forwarded {
            interface: from,
            frame: Bytes::from(frame),
        }
    }
}

/// Source and destination of a packet that has been checked.
fn ends_v6(packet: &[u8]) -> (Ipv6Addr, Ipv6Addr) {
    let view = Ipv6Packet::new_unchecked(packet);
    (view.src_addr(), view.dst_addr())
}

fn arp_bytes(message: &ArpRepr) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut ArpPacket::new_unchecked(&mut bytes[..]));
    bytes
}
