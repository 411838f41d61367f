//! What fuzzers and replayed corpora call: each function takes any bytes and must not panic.

use crate::capture::summarize;
use crate::router::{InterfaceSettings, Router};
use crate::services::{DhcpServer, DnsServer, DnsTable, Lease, Services};
use crate::{
    Fabric, FrozenFabric, Impairment, MacAddress, Output, PathCounters, PortId, PortSettings,
    Probability, Scope, Time, netdev,
};
use bytes::{Bytes, BytesMut};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Ports of the switch that [`fabric`] drives.
const PORTS: usize = 4;

/// Reads frames from what a peer sends.
pub fn framing(bytes: &[u8]) {
    let mut received = BytesMut::from(bytes);
    while let Ok(Some(_)) = netdev::decode(&mut received) {}
}

/// Summarises a frame.
pub fn dissection(bytes: &[u8]) {
    let summary = summarize(bytes);
    assert!(!summary.text.contains('\n'), "{summary:?}");
}

/// The station whose frames [`router`] and [`services`] receive.
const STATION: MacAddress = MacAddress::local(2);

/// Services that know one station.
fn known_services() -> Services {
    let address = Ipv4Addr::new(10, 0, 0, 2);
    let lease = Lease {
        address,
        host_name: "a".to_owned(),
    };
    let mut table = DnsTable::default();
    table.insert(address.into(), ["a.lan", "a"]);
    Services {
        dhcp: Some(DhcpServer {
            domain: "lan".to_owned(),
            leases: [(STATION, lease)].into(),
            ..DhcpServer::default()
        }),
        dns: Some(DnsServer { table }),
    }
}

/// Gives the services a message, and checks that what they answer is a message of a bounded length.
pub fn services(bytes: &[u8]) {
    let Services { dhcp, dns } = known_services();
    let own = (Ipv4Addr::new(10, 0, 0, 1), 24);
    if let Some(answer) = dhcp.and_then(|dhcp| dhcp.answer(own, 1500, bytes)) {
        assert!(answer.payload.len() < 1_000);
        assert_eq!(answer.payload[0], 2, "a reply");
    }
    if let Some(answer) = dns.and_then(|dns| dns.answer(bytes)) {
        let answer = answer.message;
        assert!(answer.len() <= 512);
        assert_eq!(answer[..2], bytes[..2]);
        assert!(answer[2] & 0x80 != 0, "a reply");
    }
}

/// Reads the bytes as frames of the stations of a router, each after its interface and its length, and checks
/// that no frame is answered with many.
pub fn router(bytes: &[u8]) {
    let mut router = Router::default();
    let interfaces = [0, 1_u8].map(|n| {
        let id = router.add_interface(InterfaceSettings {
            mac: MacAddress::local(0x100),
            ipv4: Some((Ipv4Addr::new(10, n, 0, 1), 24)),
            ipv6: Some((Ipv6Addr::new(0xfd00, n.into(), 0, 0, 0, 0, 0, 1), 64)),
            mtu: 1400 + usize::from(n) * 100,
        });
        router.services_mut(id).into_iter().for_each(|services| {
            *services = known_services();
        });
        id
    });
    let settings = crate::uplink::interface_settings();
    let uplink = router.add_uplink(settings, crate::uplink::HOPS);
    let interfaces = [interfaces[0], interfaces[1], uplink];
    router.join(interfaces[0], interfaces[1]);
    router.join(interfaces[0], uplink);
    let (mut now, mut out, mut rest) = (Time::ZERO, Vec::new(), bytes);
    while let [at, length, more @ ..] = rest {
        let (frame, more) = more.split_at(more.len().min(usize::from(*length) * 8));
        rest = more;
        let at = interfaces[usize::from(*at) % interfaces.len()];
        router.receive(now, at, frame, &mut out);
        // An answer of a station sends what waited for it.
        assert!(out.len() <= crate::router::HELD_PACKETS + 1);
        out.clear();
        now = now + Duration::from_millis(700);
        router.advance(now, &mut out);
        out.clear();
    }
}

/// Reads the bytes as a series of actions on a switch, and checks after each that no frame is lost
/// without a reason, and at the end that a saved switch continues as the original does.
pub fn fabric(bytes: &[u8]) {
    let mut fabric = Fabric::new(1);
    let mut ports: Vec<PortId> = (0..PORTS)
        .map(|n| fabric.add_port(PortSettings::new(format!("port-{n}"))))
        .collect();
    let (mut now, mut out) = (Time::ZERO, Output::with_drops());
    let mut rest = bytes;
    while let [action, a, b, value, more @ ..] = rest {
        rest = more;
        let (from, to) = (
            ports[usize::from(*a) % PORTS],
            ports[usize::from(*b) % PORTS],
        );
        now = now + Duration::from_micros(u64::from(*value));
        act(
            &mut fabric,
            *action,
            (from, to),
            *value,
            &mut rest,
            now,
            &mut out,
        );
        if *action % 16 == 15 {
            let index = usize::from(*a) % PORTS;
            let _ = fabric.remove_port(ports[index], &mut out);
            ports[index] = fabric.add_port(PortSettings::new(format!("port-{index}")));
        }
        check(&fabric, &ports);
        out.clear();
    }
    let frozen = fabric.freeze(now);
    continue_both(fabric, frozen, now);
}

fn act(
    fabric: &mut Fabric,
    action: u8,
    (from, to): (PortId, PortId),
    value: u8,
    rest: &mut &[u8],
    now: Time,
    out: &mut Output,
) {
    let probability = Probability::fraction(f64::from(value) / 255.0);
    let millis = Duration::from_millis(u64::from(value));
    let mut impairment = Impairment::default();
    match action % 16 {
        0 => fabric.advance(now, out),
        1 => impairment.latency = Some(millis),
        2 => impairment.jitter = Some(millis),
        3 => impairment.loss = probability,
        4 => impairment.burst = Some(f64::from(value)),
        5 => impairment.rate = Some(u64::from(value) * 1_000),
        6 => impairment.duplicate = probability,
        7 => impairment.reorder = probability,
        8 => impairment.corrupt = probability,
        9 => fabric.change_rules(out, |rules| rules.partition(from, to)),
        10 => fabric.change_rules(out, |rules| rules.unpartition(from, to)),
        11 => drop(fabric.set_link(from, value & 1 == 0, out)),
        _ => {
            let (frame, more) = rest.split_at(rest.len().min(usize::from(value)));
            *rest = more;
            let _ = fabric.receive(now, from, Bytes::copy_from_slice(frame), out);
        }
    }
    if impairment != Impairment::default() {
        let scope = if value & 1 == 0 {
            Scope::ALL
        } else {
            Scope::path(from, to)
        };
        fabric.change_rules(out, |rules| rules.impair(scope, impairment));
    }
}

/// Every frame that entered a path, and every copy, was delivered, dropped, or is in flight.
fn check(fabric: &Fabric, ports: &[PortId]) {
    let in_flight = fabric.in_flight.ordered();
    for from in ports {
        for to in ports.iter().filter(|to| *to != from) {
            let counters: PathCounters = fabric.path_counters(*from, *to).unwrap_or_default();
            let flying = in_flight.iter().filter(|t| (t.from, t.to) == (*from, *to));
            assert_eq!(
                counters.entered + counters.duplicated,
                counters.delivered + counters.dropped() + flying.count() as u64,
                "{from} to {to}: {counters:?}"
            );
        }
    }
}

fn continue_both(mut original: Fabric, frozen: FrozenFabric, now: Time) {
    let (mut thawed, then) = Fabric::thaw(frozen).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(then, now);
    let ports: Vec<PortId> = original.ports().collect();
    for step in 0..64_u64 {
        let now = now + Duration::from_micros(step * 700);
        let mut frame = vec![0xff; 60];
        frame.extend(step.to_be_bytes());
        let from = ports[step as usize % ports.len()];
        let run = |fabric: &mut Fabric| {
            let mut out = Output::with_drops();
            let _ = fabric.receive(now, from, Bytes::from(frame.clone()), &mut out);
            out
        };
        assert_eq!(run(&mut original), run(&mut thawed), "step {step}");
        assert_eq!(original.next_due(), thawed.next_due());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use provium_testkit::replay;

    #[test]
    fn framing_survives_any_bytes() {
        let seeds = [b"\0\0\0\x04ping\0\0\0\0".to_vec(), vec![0xff; 64]];
        replay(&seeds, 5_000, super::framing);
    }

    #[test]
    fn dissection_survives_any_frame() {
        let ethernet = b"\x52\0\0\0\0\x02\x52\0\0\0\0\x01";
        let ip = b"\x08\0\x45\0\0\x20\0\0\0\0\x40\x11\0\0\x0a\0\0\x01\x0a\0\0\x02\0\x35\x30\x39\0\x0c\0\0abcd";
        let arp =
            b"\x08\x06\0\x01\x08\0\x06\x04\0\x01\x52\0\0\0\0\x01\x0a\0\0\x01\0\0\0\0\0\0\x0a\0\0\x02";
        let ip6 = b"\x86\xdd\x60\0\0\0\0\x08\x3a\xff\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\xff\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\x85\0\0\0\0\0\0\0";
        let seeds = [
            [&ethernet[..], ip].concat(),
            [&ethernet[..], arp].concat(),
            [&ethernet[..], ip6].concat(),
            [&ethernet[..], b"\x81\0\0\x2a", ip].concat(),
        ];
        replay(&seeds, 20_000, super::dissection);
    }

    /// A DISCOVER of the known station.
    fn discover() -> Vec<u8> {
        let mut message = vec![1, 1, 6, 0, 1, 2, 3, 4];
        message.resize(28, 0);
        message.extend(super::STATION.0);
        message.resize(236, 0);
        message.extend(b"\x63\x82\x53\x63\x35\x01\x01\x32\x04\x0a\0\0\x02\x37\x03\x01\x03\x06\xff");
        message
    }

    const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x03lan\0\0\x01\0\x01";

    #[test]
    fn the_services_survive_any_message() {
        let mut extended = QUESTION.to_vec();
        extended[11] = 1;
        extended.extend(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
        let mut request = discover();
        request[242] = 3;
        let seeds = [discover(), request, QUESTION.to_vec(), extended];
        replay(&seeds, 20_000, super::services);
    }

    #[test]
    fn the_router_survives_any_frame() {
        let router = b"\x52\0\0\0\x01\0\x52\0\0\0\0\x02";
        let sized = |at: u8, frame: Vec<u8>| {
            let mut frame = frame;
            frame.resize(frame.len().next_multiple_of(8), 0);
            [vec![at, (frame.len() / 8) as u8], frame].concat()
        };
        let arp = sized(0, [&router[..], b"\x08\x06\0\x01\x08\0\x06\x04\0\x01\x52\0\0\0\0\x02\x0a\0\0\x02\0\0\0\0\0\0\x0a\0\0\x01"].concat());
        let ends = |to: &str, port| {
            let source = "10.0.0.2:68".parse().expect("an end");
            let to: std::net::IpAddr = to.parse().expect("an address");
            (source, std::net::SocketAddr::new(to, port))
        };
        let datagram = |to: &str, port, payload: &[u8]| {
            let (source, to) = ends(to, port);
            let packet = crate::ip::udp::packet(source, to, payload).expect("short");
            sized(0, [&router[..], b"\x08\0", &packet].concat())
        };
        let gateway = b"\x52\x54\0\x70\x76\xfd\x52\x54\0\x70\x76\xfe";
        let found = sized(2, [&gateway[..], b"\x08\x06\0\x01\x08\0\x06\x04\0\x02\x52\x54\0\x70\x76\xfe\xc0\0\0\x01\x52\x54\0\x70\x76\xfd\xc0\0\0\x02"].concat());
        let source = "203.0.113.5:53".parse().expect("an end");
        let uplink = std::net::SocketAddr::new(crate::uplink::ADDRESS.into(), 68);
        let answer = crate::ip::udp::packet(source, uplink, b"answer").expect("short");
        let report = crate::ip::ipv4::error(
            &crate::ip::udp::packet(uplink, source, b"data").expect("short"),
            crate::uplink::GATEWAY,
            crate::ip::ipv4::Error::PortUnreachable,
        );
        let from_uplink = |packet: &[u8]| sized(2, [&gateway[..], b"\x08\0", packet].concat());
        let seeds = [
            [
                arp.clone(),
                datagram("203.0.113.5", 53, b"data"),
                found,
                from_uplink(&answer),
                from_uplink(&report.expect("one")),
            ]
            .concat(),
            [arp.clone(), datagram("10.0.0.1", 53, QUESTION)].concat(),
            [arp.clone(), datagram("10.1.0.2", 9, b"data")].concat(),
            datagram("255.255.255.255", 67, &discover()),
            arp,
        ];
        replay(&seeds, 5_000, super::router);
    }

    #[test]
    fn the_fabric_survives_any_series_of_actions() {
        let latency = [1, 0, 0, 20];
        let frame = [12, 0, 1, 60];
        let mut seed = Vec::new();
        for _ in 0..4 {
            seed.extend(latency);
            seed.extend(frame);
            seed.extend([0xff; 60]);
        }
        replay(&[seed], 300, super::fabric);
    }

    proptest! {
        #[test]
        fn any_series_of_actions_keeps_the_promises(
            bytes in proptest::collection::vec(any::<u8>(), 0..2_000)
        ) {
            super::fabric(&bytes);
        }
    }
}
