//! Packets for the router itself: echo requests, and requests to its services.

use super::interface::{InterfaceId, InterfaceSettings};
use super::router::{Forwarded, IPV4, Router};
use crate::ip::udp::{self, Datagram};
use crate::ip::{ipv4, ipv6};
use crate::services::{DHCP_PORT, DNS_PORT, DhcpServer};
use crate::{MacAddress, Time};
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet};
use std::net::SocketAddr;

impl Router {
    pub(super) fn receive_local_v4(
        &mut self,
        now: Time,
        at: InterfaceId,
        packet: &[u8],
        is_broadcast: bool,
        out: &mut Vec<Forwarded>,
    ) {
        let datagram = udp::in_ipv4(packet);
        if let Some(datagram) = datagram
            && datagram.destination.port() == DHCP_PORT
            && let Some(interface) = self.interface(at)
            && let Some(server) = &interface.services.dhcp
        {
            let answer = answer_dhcp(server, &interface.settings, datagram);
            return answer.into_iter().for_each(|(station, packet)| {
                self.push_frame(at, station, IPV4, &packet, out);
            });
        }
        if is_broadcast {
            return;
        }
        let answer = ipv4::echo_reply(packet).or_else(|| self.answer_dns(at, datagram?));
        if let Some(answer) = answer {
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
        out: &mut Vec<Forwarded>,
    ) {
        let datagram = udp::in_ipv6(packet);
        let answer = ipv6::echo_reply(packet).or_else(|| self.answer_dns(at, datagram?));
        if let Some(answer) = answer {
            self.send_v6(now, at, answer, out);
        } else if has_ports(Ipv6Packet::new_unchecked(packet).next_header()) {
            self.report_v6(now, at, packet, ipv6::Error::PortUnreachable, out);
        }
    }

    /// The packet with the answer of the DNS server, if the interface has one and is asked.
    fn answer_dns(&self, at: InterfaceId, datagram: Datagram<'_>) -> Option<Vec<u8>> {
        if datagram.destination.port() != DNS_PORT {
            return None;
        }
        let server = self.interface(at)?.services.dns.as_ref()?;
        let answer = server.answer(datagram.payload)?;
        udp::packet(datagram.destination, datagram.source, &answer)
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
