//! Packets for the router itself: echo requests, and requests to its services.

use super::interface::{ForwardedFrame, InterfaceId, InterfaceSettings};
use super::nat;
use super::router::{IPV4, Router};
use crate::ip::udp::{self, Datagram};
use crate::ip::{ipv4, ipv6};
use crate::services::{DHCP_PORT, DNS_PORT, DhcpServer, DnsAnswer};
use crate::{MacAddress, Time};
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet};
use std::net::{Ipv4Addr, SocketAddr};

impl Router {
    pub(super) fn receive_local_v4(
        &mut self,
        now: Time,
        at: InterfaceId,
        packet: &[u8],
        is_broadcast: bool,
        out: &mut Vec<ForwardedFrame>,
    ) {
        let datagram = udp::in_ipv4(packet);
        if let Some(datagram) = datagram
            && datagram.destination.port() == DHCP_PORT
            && let Some(interface) = self.interfaces.get(at)
            && let Some(server) = &interface.services.dhcp
        {
            let answer = answer_dhcp(server, &interface.settings, datagram);
            return answer.into_iter().for_each(|(station, packet)| {
                self.interfaces.push_frame(at, station, IPV4, &packet, out);
            });
        }
        if is_broadcast {
            return;
        }
        let dns = datagram.and_then(|datagram| Some((self.ask_dns(at, datagram)?, datagram)));
        if let Some((answer, question)) = dns {
            let next = self.interfaces.uplink_of(at);
            let next = next.and_then(|(uplink, found)| Some((uplink, found.hops.dns?)));
            if let Some((uplink, server)) = next.filter(|_| answer.is_unknown) {
                let question = packet.to_vec();
                return self.pass_on_question(now, at, question, (uplink, server), out);
            }
            let source = question.destination;
            if let Some(answer) = udp::packet(source, question.source, &answer.message) {
                self.send_v4(now, at, answer, out);
            }
        } else if let Some(answer) = ipv4::echo_reply(packet) {
            self.send_v4(now, at, answer, out);
        } else if has_ports(Ipv4Packet::new_unchecked(packet).next_header()) {
            self.report_v4(now, at, packet, ipv4::Error::PortUnreachable, out);
        }
    }

    pub(super) fn receive_local_v6(
        &mut self,
        now: Time,
        at: InterfaceId,
        packet: &[u8],
        out: &mut Vec<ForwardedFrame>,
    ) {
        let datagram = udp::in_ipv6(packet);
        let dns = datagram.and_then(|datagram| Some((self.ask_dns(at, datagram)?, datagram)));
        if let Some((mut answer, question)) = dns {
            // The uplink carries IPv4 only.
            if answer.is_unknown && self.interfaces.uplink_of(at).is_some() {
                answer = answer.refused();
            }
            let source = question.destination;
            if let Some(answer) = udp::packet(source, question.source, &answer.message) {
                self.send_v6(now, at, answer, out);
            }
        } else if let Some(answer) = ipv6::echo_reply(packet) {
            self.send_v6(now, at, answer, out);
        } else if has_ports(Ipv6Packet::new_unchecked(packet).next_header()) {
            self.report_v6(now, at, packet, ipv6::Error::PortUnreachable, out);
        }
    }

    /// What the DNS server of an interface answers, if it has one and is asked.
    fn ask_dns(&self, at: InterfaceId, question: Datagram<'_>) -> Option<DnsAnswer> {
        if question.destination.port() != DNS_PORT {
            return None;
        }
        let server = self.interfaces.get(at)?.services.dns.as_ref()?;
        server.answer(question.payload)
    }

    /// Asks the DNS server behind an uplink in place of the own one. Its answer returns to the station as one of
    /// the own server.
    fn pass_on_question(
        &mut self,
        now: Time,
        at: InterfaceId,
        mut question: Vec<u8>,
        (uplink, server): (InterfaceId, Ipv4Addr),
        out: &mut Vec<ForwardedFrame>,
    ) {
        let asked = nat::redirect(&mut question, server);
        let before = question.clone();
        self.forward_v4(now, at, question, out);
        if let (Some(uplink), Some(asked)) = (self.interfaces.uplink_mut(uplink), asked) {
            uplink.nat.note_redirected(&before, asked);
        }
    }
}

/// The packet with the answer of a DHCP server, and the station that it is for.
fn answer_dhcp(
    server: &DhcpServer,
    settings: &InterfaceSettings,
    request: Datagram<'_>,
) -> Option<(MacAddress, Vec<u8>)> {
    let own = settings.ipv4?;
    let answer = server.answer(own, settings.mtu, request.payload)?;
    let source = SocketAddr::new(own.0.into(), DHCP_PORT);
    let packet = udp::packet(source, answer.to.into(), &answer.payload)?;
    Some((answer.station, packet))
}

/// Whether a packet of this protocol is for a port, so that it can be reported that nothing listens there.
fn has_ports(protocol: IpProtocol) -> bool {
    matches!(protocol, IpProtocol::Udp | IpProtocol::Tcp)
}
