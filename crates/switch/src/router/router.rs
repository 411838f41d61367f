//! The router.

use super::interface::{
    ForwardedFrame, Interface, InterfaceId, InterfaceSettings, Uplink, UplinkHops,
};
use super::interfaces::Interfaces;
use super::nat::Nat;
use super::neighbors::{NeighborEvent, Neighbors};
use crate::ip::arp::Arp;
use crate::ip::{ipv4, ipv6};
use crate::services::Services;
use crate::{Header, MacAddress, Time};
use std::net::{IpAddr, Ipv6Addr};

const ARP: u16 = 0x0806;
pub(super) const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;

/// A router; see the [module](super). Times that it is given must not decrease.
#[derive(Debug, Clone, Default)]
pub struct Router {
    pub(super) interfaces: Interfaces,
    pub(super) neighbors: Neighbors,
}

impl Router {
    /// Adds an interface, which is not joined with others and has no services.
    pub fn add_interface(&mut self, settings: InterfaceSettings) -> InterfaceId {
        self.interfaces.add(Interface {
            settings,
            services: Services::default(),
            uplink: None,
        })
    }

    /// Adds an interface to an uplink: for the interfaces that are joined with it, all addresses that are not
    /// in a subnet of the router are behind its gateway. What leaves through it has its IPv4 address; what has
    /// no IPv4 address does not leave.
    pub fn add_uplink(&mut self, settings: InterfaceSettings, hops: UplinkHops) -> InterfaceId {
        let own = settings.ipv4.map(|(own, _)| own);
        let uplink = own.map(|own| Uplink {
            hops,
            nat: Nat::new(own, hops.dns),
        });
        self.interfaces.add(Interface {
            settings,
            services: Services::default(),
            uplink,
        })
    }

    /// Removes an interface. Its id is not used again.
    pub fn remove_interface(&mut self, id: InterfaceId) {
        self.interfaces.remove(id);
        self.neighbors.forget(id);
    }

    /// The services of an interface; `None` if the interface does not exist.
    pub fn services_mut(&mut self, id: InterfaceId) -> Option<&mut Services> {
        let interface = self.interfaces.get_mut(id);
        interface.map(|interface| &mut interface.services)
    }

    /// Lets packets pass between two interfaces, in both directions.
    pub fn join(&mut self, a: InterfaceId, b: InterfaceId) {
        self.interfaces.join(a, b);
    }

    /// Ends [`Router::join`].
    pub fn separate(&mut self, a: InterfaceId, b: InterfaceId) {
        self.interfaces.separate(a, b);
    }

    /// Takes a frame that has arrived at an interface, and appends what follows from it to `out`.
    pub fn receive(
        &mut self,
        now: Time,
        at: InterfaceId,
        frame: &[u8],
        out: &mut Vec<ForwardedFrame>,
    ) {
        let Some(interface) = self.interfaces.get(at) else {
            return;
        };
        let (Some(header), Some(ethertype)) = (Header::of(frame), frame.get(12..14)) else {
            return;
        };
        if header.destination != interface.settings.mac && !header.destination.is_group() {
            return;
        }
        let payload = &frame[14..];
        match u16::from_be_bytes([ethertype[0], ethertype[1]]) {
            ARP => self.receive_arp(now, at, payload, out),
            IPV4 => self.receive_ipv4(now, at, header, payload, out),
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
    pub fn advance(&mut self, now: Time, out: &mut Vec<ForwardedFrame>) {
        for due in self.neighbors.take_due(now) {
            match due {
                NeighborEvent::Ask((at, address)) => self.ask(at, address, out),
                NeighborEvent::Unreachable((at, IpAddr::V4(_)), packets) => {
                    for packet in packets {
                        self.report_v4(now, at, &packet, ipv4::Error::HostUnreachable, out);
                    }
                }
                NeighborEvent::Unreachable((at, IpAddr::V6(_)), packets) => {
                    for packet in packets {
                        self.report_v6(now, at, &packet, ipv6::Error::AddressUnreachable, out);
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
        out: &mut Vec<ForwardedFrame>,
    ) {
        let (Some(arp), Some(interface)) = (Arp::parse(payload), self.interfaces.get(at)) else {
            return;
        };
        let settings = &interface.settings;
        let (sender, station) = arp.sender;
        let is_for_us = settings.owns(arp.target.1.into());
        let mac = settings.mac;
        // Only stations of the subnet, and not one that claims the router's own address.
        let is_neighbor =
            settings.route_to(station.into()).is_some() && !settings.owns(station.into());
        // A station that has moved says so to all.
        let is_known = self.neighbors.look_up(now, (at, station.into())).is_some();
        if is_neighbor && (is_for_us || is_known) {
            self.learn(now, at, station.into(), sender, out);
        }
        if is_for_us && arp.is_request {
            let reply = Arp {
                is_request: false,
                sender: (mac, arp.target.1),
                target: arp.sender,
            };
            self.interfaces
                .push_frame(at, sender, ARP, &reply.to_bytes(), out);
        }
    }

    fn receive_ipv4(
        &mut self,
        now: Time,
        at: InterfaceId,
        header: Header,
        payload: &[u8],
        out: &mut Vec<ForwardedFrame>,
    ) {
        let (Some(mut packet), Some(interface)) = (ipv4::checked(payload), self.interfaces.get(at))
        else {
            return;
        };
        if interface.uplink.is_some() {
            let is_for_station = self.interfaces.uplink_mut(at).is_some_and(|uplink| {
                !header.destination.is_group() && uplink.nat.inbound(now, &mut packet)
            });
            if is_for_station {
                self.forward_v4(now, at, packet, out);
            }
            return;
        }
        let (source, destination) = ipv4::ends(&packet);
        let is_of_subnet = interface.settings.route_to(source.into()).is_some();
        let is_broadcast =
            destination.is_broadcast() || interface.settings.is_broadcast(destination);
        // A packet with a source of another subnet is forged (RFC 2827). A packet of a station which asks for
        // its address has none.
        let has_no_address = is_broadcast && source.is_unspecified();
        if !is_of_subnet && !has_no_address {
            return;
        }
        if is_broadcast || self.interfaces.owns(at, destination.into()) {
            return self.receive_local_v4(now, at, &packet, is_broadcast, out);
        }
        if header.destination.is_group() || destination.is_multicast() {
            return;
        }
        self.forward_v4(now, at, packet, out);
    }

    fn receive_ipv6(
        &mut self,
        now: Time,
        at: InterfaceId,
        header: Header,
        payload: &[u8],
        out: &mut Vec<ForwardedFrame>,
    ) {
        let (Some(packet), Some(interface)) = (ipv6::checked(payload), self.interfaces.get(at))
        else {
            return;
        };
        let (source, destination) = ipv6::ends(&packet);
        let is_of_subnet = interface.settings.route_to(source.into()).is_some();
        if let Some(discovery) = ipv6::discovery(&packet) {
            return self.discover(now, at, source, discovery, out);
        }
        if !is_of_subnet && !source.is_unicast_link_local() {
            return;
        }
        if self.interfaces.owns(at, destination.into()) {
            return self.receive_local_v6(now, at, &packet, out);
        }
        let is_of_this_link = destination.is_unicast_link_local() || source.is_unicast_link_local();
        if header.destination.is_group() || destination.is_multicast() || is_of_this_link {
            return;
        }
        self.forward_v6(now, at, packet, out);
    }

    fn discover(
        &mut self,
        now: Time,
        at: InterfaceId,
        source: Ipv6Addr,
        discovery: ipv6::Discovery,
        out: &mut Vec<ForwardedFrame>,
    ) {
        let Some(interface) = self.interfaces.get(at) else {
            return;
        };
        let (mac, settings) = (interface.settings.mac, &interface.settings);
        let is_neighbor = |station: Ipv6Addr| {
            let is_near = station.is_unicast_link_local();
            (is_near || settings.route_to(station.into()).is_some())
                && !settings.owns(station.into())
        };
        match discovery {
            ipv6::Discovery::Solicitation { target, sender } => {
                if !settings.owns(target.into()) {
                    return;
                }
                let answer = ipv6::advertisement(target, mac, source);
                let to = match sender {
                    Some(sender) if is_neighbor(source) => {
                        self.learn(now, at, source.into(), sender, out);
                        sender
                    }
                    _ => ipv6::group_mac(ipv6::ends(&answer).1),
                };
                self.interfaces.push_frame(at, to, IPV6, &answer, out);
            }
            ipv6::Discovery::Advertisement { target, at: mac } => {
                if is_neighbor(target) {
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
        out: &mut Vec<ForwardedFrame>,
    ) {
        let ethertype = if station.is_ipv4() { IPV4 } else { IPV6 };
        for packet in self.neighbors.learn(now, (at, station), mac) {
            self.interfaces.push_frame(at, mac, ethertype, &packet, out);
        }
    }

    /// Asks the stations of an interface who has an address.
    pub(super) fn ask(&self, at: InterfaceId, address: IpAddr, out: &mut Vec<ForwardedFrame>) {
        let Some(settings) = self.interfaces.get(at).map(|interface| &interface.settings) else {
            return;
        };
        match address {
            IpAddr::V4(target) => {
                let Some((own, _)) = settings.ipv4 else {
                    return;
                };
                let request = Arp {
                    is_request: true,
                    sender: (settings.mac, own),
                    target: (MacAddress([0; 6]), target),
                };
                self.interfaces.push_frame(
                    at,
                    MacAddress::BROADCAST,
                    ARP,
                    &request.to_bytes(),
                    out,
                );
            }
            IpAddr::V6(target) => {
                let own = settings.ipv6.map_or(settings.link_local(), |(own, _)| own);
                let group = ipv6::group_mac(ipv6::solicited_node(target));
                let question = ipv6::solicitation(own, settings.mac, target);
                self.interfaces.push_frame(at, group, IPV6, &question, out);
            }
        }
    }
}
