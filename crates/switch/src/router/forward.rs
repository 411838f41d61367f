//! Packets that leave the router: their routes, their lengths, and errors about them.

use super::interface::{ForwardedFrame, InterfaceId};
use super::router::{IPV4, IPV6, Router};
use crate::Time;
use crate::ip::{ipv4, ipv6};
use std::net::IpAddr;

impl Router {
    /// Passes on a packet that is for another station.
    pub(super) fn forward_v4(
        &mut self,
        now: Time,
        at: InterfaceId,
        mut packet: Vec<u8>,
        out: &mut Vec<ForwardedFrame>,
    ) {
        if ipv4::take_hop(&mut packet) {
            self.send_v4(now, at, packet, out);
        } else {
            self.report_v4(now, at, &packet, ipv4::Error::TimeExceeded, out);
        }
    }

    /// Passes on a packet that is for another station.
    pub(super) fn forward_v6(
        &mut self,
        now: Time,
        at: InterfaceId,
        mut packet: Vec<u8>,
        out: &mut Vec<ForwardedFrame>,
    ) {
        if ipv6::take_hop(&mut packet) {
            self.send_v6(now, at, packet, out);
        } else {
            self.report_v6(now, at, &packet, ipv6::Error::TimeExceeded, out);
        }
    }

    /// Sends a packet. `at`: the interface that it, or what it answers, came from.
    pub(super) fn send_v4(
        &mut self,
        now: Time,
        at: InterfaceId,
        mut packet: Vec<u8>,
        out: &mut Vec<ForwardedFrame>,
    ) {
        let (_, destination) = ipv4::ends(&packet);
        let Some((to, mtu)) = self.interfaces.route(at, destination.into()) else {
            return self.report_v4(now, at, &packet, ipv4::Error::NetworkUnreachable, out);
        };
        // A broadcast of another subnet is not for the stations of this one (RFC 2644).
        let subnet = self.interfaces.get(to).map(|interface| &interface.settings);
        if subnet.is_some_and(|subnet| subnet.is_broadcast(destination)) {
            return;
        }
        if let Err(why) = ipv4::check_length(&packet, mtu) {
            return self.report_v4(now, at, &packet, why, out);
        }
        let mut next_hop = destination;
        if to != at
            && let Some(uplink) = self.interfaces.uplink_mut(to)
        {
            next_hop = uplink.hops.gateway;
            if !uplink.nat.outbound(now, &mut packet) {
                return;
            }
        }
        for piece in ipv4::fragments(packet, mtu) {
            self.transmit(now, to, next_hop.into(), piece, out);
        }
    }

    /// Sends a packet. `at`: the interface that it, or what it answers, came from.
    pub(super) fn send_v6(
        &mut self,
        now: Time,
        at: InterfaceId,
        packet: Vec<u8>,
        out: &mut Vec<ForwardedFrame>,
    ) {
        let (_, destination) = ipv6::ends(&packet);
        let Some((to, mtu)) = self.interfaces.route(at, destination.into()) else {
            return self.report_v6(now, at, &packet, ipv6::Error::NoRoute, out);
        };
        if packet.len() > mtu {
            return self.report_v6(now, at, &packet, ipv6::Error::PacketTooBig { mtu }, out);
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
        out: &mut Vec<ForwardedFrame>,
    ) {
        let ethertype = if station.is_ipv4() { IPV4 } else { IPV6 };
        match self.neighbors.look_up(now, (to, station)) {
            Some(mac) => self.interfaces.push_frame(to, mac, ethertype, &packet, out),
            None => {
                if self.neighbors.hold(now, (to, station), packet) {
                    self.ask(to, station, out);
                }
            }
        }
    }

    /// Reports to the sender of a packet what is wrong with it, from the interface on the way to it.
    pub(super) fn report_v4(
        &mut self,
        now: Time,
        at: InterfaceId,
        about: &[u8],
        why: ipv4::Error,
        out: &mut Vec<ForwardedFrame>,
    ) {
        let (sender, _) = ipv4::ends(about);
        let Some((to, _)) = self.interfaces.route(at, sender.into()) else {
            return;
        };
        let own = self.interfaces.get(to).and_then(|to| to.settings.ipv4);
        let report = own.and_then(|(own, _)| ipv4::error(about, own, why));
        if let Some(report) = report {
            self.transmit(now, to, sender.into(), report, out);
        }
    }

    /// Reports to the sender of a packet what is wrong with it, from the interface on the way to it.
    pub(super) fn report_v6(
        &mut self,
        now: Time,
        at: InterfaceId,
        about: &[u8],
        why: ipv6::Error,
        out: &mut Vec<ForwardedFrame>,
    ) {
        let (sender, _) = ipv6::ends(about);
        let Some((to, _)) = self.interfaces.route(at, sender.into()) else {
            return;
        };
        let own = self.interfaces.get(to).and_then(|to| to.settings.ipv6);
        let report = own.and_then(|(own, _)| ipv6::error(about, own, why));
        if let Some(report) = report {
            self.transmit(now, to, sender.into(), report, out);
        }
    }
}
