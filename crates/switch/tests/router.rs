//! The router as the stations of its subnets see it.

#![expect(clippy::expect_used, reason = "tests")]

use proptest::prelude::*;
use provium_switch::capture::summarize;
use provium_switch::router::{
    ForwardedFrame, HELD_PACKETS, InterfaceId, InterfaceSettings, Router, UplinkHops,
};
use provium_switch::services::{DhcpServer, DnsServer, Lease};
use provium_switch::{MacAddress, Time};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr};
use std::net::Ipv4Addr;
use std::time::Duration;

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const MAC_A: MacAddress = MacAddress::local(0xa);
const MAC_B: MacAddress = MacAddress::local(0xb);
const LEFT: MacAddress = MacAddress::local(0x100);
const RIGHT: MacAddress = MacAddress::local(0x101);

struct Net {
    router: Router,
    left: InterfaceId,
    right: InterfaceId,
    now: Time,
}

impl Net {
    fn new() -> Self {
        let mut router = Router::default();
        let mut interface = |mac, third, mtu| {
            router.add_interface(InterfaceSettings {
                mac,
                ipv4: Some((Ipv4Addr::new(10, third, 0, 254), 24)),
                ipv6: Some((format!("fd00:{third}::fe").parse().expect("an address"), 64)),
                mtu,
            })
        };
        let (left, right) = (interface(LEFT, 0, 1500), interface(RIGHT, 1, 1400));
        router.join(left, right);
        Self {
            router,
            left,
            right,
            now: Time::ZERO,
        }
    }

    fn receive(&mut self, at: InterfaceId, frame: &[u8]) -> Vec<ForwardedFrame> {
        let mut out = Vec::new();
        self.router.receive(self.now, at, frame, &mut out);
        out
    }

    /// A is known from now on.
    fn a_asks(&mut self) {
        let router = Ipv4Addr::new(10, 0, 0, 254);
        self.receive(self.left, &arp(1, MAC_A, A, MacAddress::BROADCAST, router));
    }

    /// Type and code of what is reported to A about its packet.
    fn report(&mut self, packet: &[u8]) -> Option<(u8, u8)> {
        let out = self.receive(self.left, &from_a(packet));
        let report = out.first()?;
        assert_eq!((out.len(), report.interface), (1, self.left));
        Some((report.frame[34], report.frame[35]))
    }

    /// B says where it is.
    fn b_answers(&mut self) -> Vec<ForwardedFrame> {
        self.receive(
            self.right,
            &arp(2, MAC_B, B, RIGHT, Ipv4Addr::new(10, 1, 0, 254)),
        )
    }

    fn wait(&mut self, seconds: u64) -> Vec<ForwardedFrame> {
        self.now = self.now + Duration::from_secs(seconds);
        let mut out = Vec::new();
        self.router.advance(self.now, &mut out);
        out
    }
}

fn frame(from: MacAddress, to: MacAddress, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &ethertype.to_be_bytes(), payload].concat()
}

fn arp(operation: u8, from: MacAddress, ip: Ipv4Addr, to: MacAddress, target: Ipv4Addr) -> Vec<u8> {
    let target_mac = if operation == 1 { [0; 6] } else { to.0 };
    let header = [0, 1, 8, 0, 6, 4, 0, operation];
    let payload = [
        &header[..],
        &from.0,
        &ip.octets(),
        &target_mac,
        &target.octets(),
    ]
    .concat();
    frame(from, to, 0x0806, &payload)
}

fn udp(from: Ipv4Addr, to: Ipv4Addr, length: usize, hop_limit: u8) -> Vec<u8> {
    let header = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Udp,
        payload_len: length,
        hop_limit,
    };
    let mut packet = vec![7; 20 + length];
    header.emit(
        &mut Ipv4Packet::new_unchecked(&mut packet[..]),
        &ChecksumCapabilities::default(),
    );
    packet
}

fn from_a(packet: &[u8]) -> Vec<u8> {
    frame(MAC_A, LEFT, 0x0800, packet)
}

fn shown(out: &[ForwardedFrame]) -> Vec<String> {
    out.iter()
        .map(|forwarded| summarize(&forwarded.frame).text)
        .collect()
}

#[test]
fn its_own_addresses_are_known_on_their_side_only() {
    let mut net = Net::new();
    let router = Ipv4Addr::new(10, 0, 0, 254);
    let out = net.receive(net.left, &arp(1, MAC_A, A, MacAddress::BROADCAST, router));
    assert_eq!(shown(&out), ["ARP reply 10.0.0.254 is here, 42 bytes"]);
    assert_eq!(out[0].frame[..6], MAC_A.0);
    let other = Ipv4Addr::new(10, 1, 0, 254);
    let out = net.receive(net.left, &arp(1, MAC_A, A, MacAddress::BROADCAST, other));
    assert_eq!(out, []);
}

#[test]
fn a_packet_waits_until_its_station_has_answered() {
    let mut net = Net::new();
    let out = net.receive(net.left, &from_a(&udp(A, B, 100, 64)));
    assert_eq!(
        shown(&out),
        ["ARP who-has 10.1.0.1 tell 10.1.0.254, 42 bytes"]
    );
    assert_eq!(out[0].interface, net.right);
    let out = net.b_answers();
    assert_eq!(out.len(), 1);
    assert_eq!(
        (out[0].interface, &out[0].frame[..6]),
        (net.right, &MAC_B.0[..])
    );
    let packet = Ipv4Packet::new_checked(&out[0].frame[14..]).expect("a packet");
    assert_eq!((packet.hop_limit(), packet.verify_checksum()), (63, true));
    // From now on it is known.
    let out = net.receive(net.left, &from_a(&udp(A, B, 100, 64)));
    assert_eq!(out[0].frame[..6], MAC_B.0);
}

#[test]
fn a_station_that_does_not_answer_is_unreachable() {
    let mut net = Net::new();
    net.receive(
        net.left,
        &arp(
            1,
            MAC_A,
            A,
            MacAddress::BROADCAST,
            Ipv4Addr::new(10, 0, 0, 254),
        ),
    );
    for _ in 0..2 * HELD_PACKETS {
        net.receive(net.left, &from_a(&udp(A, B, 100, 64)));
    }
    for _ in 0..2 {
        assert_eq!(net.wait(1).len(), 1);
    }
    let out = net.wait(1);
    assert_eq!(out.len(), HELD_PACKETS);
    for report in &out {
        assert_eq!(report.interface, net.left);
        assert_eq!(report.frame[14 + 20..][..2], [3, 1]);
    }
    assert_eq!(net.router.next_due(), None);
}

#[test]
fn senders_get_icmp_errors() {
    let mut net = Net::new();
    net.receive(
        net.left,
        &arp(
            1,
            MAC_A,
            A,
            MacAddress::BROADCAST,
            Ipv4Addr::new(10, 0, 0, 254),
        ),
    );
    net.b_answers();
    let mut error_about = |packet: &[u8]| {
        let out = net.receive(net.left, &from_a(packet));
        assert_eq!((out.len(), out[0].interface), (1, net.left));
        let icmp = &out[0].frame[34..];
        (icmp[0], icmp[1], u16::from_be_bytes([icmp[6], icmp[7]]))
    };
    assert_eq!(error_about(&udp(A, B, 100, 1)), (11, 0, 0));
    assert_eq!(
        error_about(&udp(A, Ipv4Addr::new(192, 0, 2, 1), 100, 64)),
        (3, 0, 0)
    );
    assert_eq!(error_about(&udp(A, B, 1_450, 64)), (3, 4, 1_400));
}

#[test]
fn what_is_for_another_station_is_ignored() {
    let mut net = Net::new();
    net.b_answers();
    let packet = udp(A, B, 100, 64);
    assert_eq!(
        net.receive(net.left, &frame(MAC_A, MAC_B, 0x0800, &packet)),
        []
    );
    let broadcast = frame(MAC_A, MacAddress::BROADCAST, 0x0800, &packet);
    assert_eq!(net.receive(net.left, &broadcast), []);
    let mut damaged = packet;
    damaged[19] ^= 1;
    assert_eq!(net.receive(net.left, &from_a(&damaged)), []);
}

#[test]
fn ipv6_is_forwarded_after_neighbour_discovery() {
    let mut net = Net::new();
    let packet = |hops: u8, payload: usize| {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, 59, hops];
        packet[4..6].copy_from_slice(&u16::try_from(payload).expect("short").to_be_bytes());
        packet.extend(
            "fd00:0::1"
                .parse::<std::net::Ipv6Addr>()
                .expect("an address")
                .octets(),
        );
        packet.extend(
            "fd00:1::1"
                .parse::<std::net::Ipv6Addr>()
                .expect("an address")
                .octets(),
        );
        packet.extend(vec![0; payload]);
        frame(MAC_A, LEFT, 0x86dd, &packet)
    };
    let out = net.receive(net.left, &packet(64, 10));
    assert_eq!(
        shown(&out),
        ["IP6 fd00:1::fe > ff02::1:ff00:1: ICMP6 neighbor solicitation, 86 bytes"]
    );
    assert_eq!(out[0].frame[..6], [0x33, 0x33, 0xff, 0, 0, 1]);
}

#[test]
fn packets_pass_only_between_interfaces_that_are_joined() {
    let mut net = Net::new();
    net.a_asks();
    net.b_answers();
    let to_right = udp(A, Ipv4Addr::new(10, 1, 0, 254), 100, 64);
    assert_eq!(net.report(&to_right), Some((3, 3)), "its other address");
    net.router.separate(net.right, net.left);
    assert_eq!(net.report(&to_right), Some((3, 0)));
    assert_eq!(net.report(&udp(A, B, 100, 64)), Some((3, 0)));
    net.router.join(net.right, net.left);
    net.router.remove_interface(net.right);
    assert_eq!(net.report(&udp(A, B, 100, 64)), Some((3, 0)));
}

#[test]
fn a_packet_with_a_forged_source_does_not_pass() {
    let mut net = Net::new();
    net.a_asks();
    net.b_answers();
    assert_eq!(
        net.report(&udp(Ipv4Addr::new(10, 0, 9, 1), B, 100, 64)),
        None
    );
    assert_eq!(net.report(&udp(B, B, 100, 64)), None);
    let own = Ipv4Addr::new(10, 0, 0, 254);
    assert_eq!(
        net.report(&udp(Ipv4Addr::new(10, 9, 0, 1), own, 100, 64)),
        None
    );
}

#[test]
fn what_leaves_through_the_uplink_has_its_address() {
    let mut net = Net::new();
    net.a_asks();
    let address = |last| Ipv4Addr::new(192, 0, 0, last);
    let settings = InterfaceSettings {
        mac: MacAddress::local(0x102),
        ipv4: Some((address(2), 29)),
        ipv6: None,
        mtu: 1500,
    };
    let (mac, gateway) = (settings.mac, MacAddress::local(0x103));
    let uplink = net.router.add_uplink(
        settings,
        UplinkHops {
            gateway: address(1),
            dns: Some(address(3)),
        },
    );
    let server = Ipv4Addr::new(203, 0, 113, 5);
    let mut question = udp(A, server, 12, 64);
    question[20..28].copy_from_slice(&[0x0f, 0xa0, 0, 53, 0, 12, 0, 0]);
    assert_eq!(net.report(&question), Some((3, 0)), "not joined");
    net.router.join(net.left, uplink);
    let out = net.receive(net.left, &from_a(&question));
    let asked = "ARP who-has 192.0.0.1 tell 192.0.0.2, 42 bytes";
    assert_eq!(
        (shown(&out), out[0].interface),
        (vec![asked.to_owned()], uplink)
    );
    let out = net.receive(uplink, &arp(2, gateway, address(1), mac, address(2)));
    let sent = "IP 192.0.0.2.4000 > 203.0.113.5.53: UDP, 4 bytes of data, 46 bytes";
    assert_eq!(shown(&out), [sent]);
    let mut answer = udp(server, address(2), 12, 64);
    answer[20..28].copy_from_slice(&[0, 53, 0x0f, 0xa0, 0, 12, 0, 0]);
    let out = net.receive(uplink, &frame(gateway, mac, 0x0800, &answer));
    let arrived = "IP 203.0.113.5.53 > 10.0.0.1.4000: UDP, 4 bytes of data, 46 bytes";
    assert_eq!(
        (shown(&out), out[0].interface),
        (vec![arrived.to_owned()], net.left)
    );
    // A question that the router's own server cannot answer.
    let services = net.router.services_mut(net.left).expect("an interface");
    services.dns = Some(DnsServer::default());
    let asked = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01c\0\0\x01\0\x01";
    let own = Ipv4Addr::new(10, 0, 0, 254);
    let length = 8 + asked.len() as u8;
    let mut question = udp(A, own, length.into(), 64);
    question[20..28].copy_from_slice(&[0x0f, 0xa1, 0, 53, 0, length, 0, 0]);
    question[28..].copy_from_slice(asked);
    let out = net.receive(net.left, &from_a(&question));
    let passed_on = "IP 192.0.0.2.4001 > 192.0.0.3.53: DNS question A c, 61 bytes";
    assert_eq!(shown(&out), [passed_on]);
    let mut from_server = udp(address(3), address(2), 12, 64);
    from_server[20..28].copy_from_slice(&[0, 53, 0x0f, 0xa1, 0, 12, 0, 0]);
    let out = net.receive(uplink, &frame(gateway, mac, 0x0800, &from_server));
    let answered = "IP 10.0.0.254.53 > 10.0.0.1.4001: UDP, 4 bytes of data, 46 bytes";
    assert_eq!(shown(&out), [answered]);
    // What no station has asked for.
    answer[23] = 0xa2;
    let stray = frame(gateway, mac, 0x0800, &answer);
    assert_eq!(net.receive(uplink, &stray), []);
    let to_guest = frame(gateway, mac, 0x0800, &udp(server, A, 100, 64));
    assert_eq!(net.receive(uplink, &to_guest), []);
    // A packet that must not be divided is reported with its own addresses.
    let mut long = udp(A, server, 1_490, 64);
    long[20..28].copy_from_slice(&[0x0f, 0xa0, 0, 53, 5, 210, 0, 0]);
    assert_eq!(net.report(&long), Some((3, 4)));
}

#[test]
fn packets_to_all_stations_of_a_subnet_do_not_pass() {
    let mut net = Net::new();
    net.a_asks();
    for all in [[10, 0, 0, 255], [10, 1, 0, 255], [255; 4]] {
        assert_eq!(net.report(&udp(A, Ipv4Addr::from(all), 100, 64)), None);
    }
    assert_eq!(net.router.next_due(), None, "no station was asked for");
}

#[test]
fn a_station_that_has_moved_is_found_again() {
    let mut net = Net::new();
    net.b_answers();
    let moved = MacAddress::local(0xc);
    net.receive(net.right, &arp(1, moved, B, MacAddress::BROADCAST, B));
    let out = net.receive(net.left, &from_a(&udp(A, B, 100, 64)));
    assert_eq!(out[0].frame[..6], moved.0);
}

#[test]
fn a_dhcp_request_without_an_address_is_answered_at_the_station() {
    let mut net = Net::new();
    let mut message = vec![1, 1, 6, 0, 1, 2, 3, 4];
    message.resize(28, 0);
    message.extend(MAC_A.0);
    message.resize(236, 0);
    message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255]);
    let mut packet = udp(
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        8 + message.len(),
        64,
    );
    let length = u16::try_from(8 + message.len())
        .expect("short")
        .to_be_bytes();
    packet[20..28].copy_from_slice(&[0, 68, 0, 67, length[0], length[1], 0, 0]);
    packet[28..].copy_from_slice(&message);
    let request = frame(MAC_A, MacAddress::BROADCAST, 0x0800, &packet);
    assert_eq!(
        net.receive(net.left, &request),
        [],
        "it has no such service"
    );
    let lease = Lease {
        address: A,
        host_name: "a".to_owned(),
    };
    let services = net.router.services_mut(net.left).expect("an interface");
    services.dhcp = Some(DhcpServer {
        leases: [(MAC_A, lease)].into(),
        ..DhcpServer::default()
    });
    let out = net.receive(net.left, &request);
    assert_eq!((out.len(), &out[0].frame[..6]), (1, &MAC_A.0[..]));
    assert_eq!(
        shown(&out),
        [
            "IP 10.0.0.254.67 > 10.0.0.1.68: DHCP offer, client 52:00:00:00:00:0a, 10.0.0.1, 342 bytes"
        ]
    );
}

proptest! {
    /// Nothing that a guest sends makes it panic, or answer with more than it was sent.
    #[test]
    fn any_frame_is_survived(
        ethertype in prop_oneof![Just(0x0800_u16), Just(0x0806), Just(0x86dd), any::<u16>()],
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        to_router in any::<bool>(),
    ) {
        let mut net = Net::new();
        let to = if to_router { LEFT } else { MacAddress::BROADCAST };
        let out = net.receive(net.left, &frame(MAC_A, to, ethertype, &payload));
        prop_assert!(out.len() <= 1);
        net.wait(1);
    }
}
