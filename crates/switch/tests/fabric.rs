//! The switch as its users see it.

#![expect(clippy::expect_used, reason = "tests")]

use bytes::Bytes;
use provium_switch::{
    DropReason, Fabric, Impairment, MacAddress, Output, PortId, PortSettings, Probability, Scope,
    Time,
};
use std::time::Duration;

const A: MacAddress = MacAddress::local(0xa);
const B: MacAddress = MacAddress::local(0xb);
const C: MacAddress = MacAddress::local(0xc);

/// A switch with three ports behind which the stations A, B and C are, all of them known.
struct Net {
    fabric: Fabric,
    ports: [PortId; 3],
    out: Output,
    now: Time,
}

impl Net {
    fn new(seed: u64) -> Self {
        let mut fabric = Fabric::new(seed);
        let ports = ["a", "b", "c"].map(|name| fabric.add_port(PortSettings::new(name)));
        let mut net = Self {
            fabric,
            ports,
            out: Output::with_drops(),
            now: Time::ZERO,
        };
        for (port, station) in net.ports.into_iter().zip([A, B, C]) {
            net.send(port, station, MacAddress::BROADCAST, b"hello");
        }
        net.out.clear();
        net
    }

    fn send(&mut self, port: PortId, from: MacAddress, to: MacAddress, payload: &[u8]) {
        let frame = frame(from, to, payload);
        self.fabric
            .receive(self.now, port, frame, &mut self.out)
            .expect("a port");
    }

    fn send_a_to_b(&mut self, payload: &[u8]) {
        self.send(self.ports[0], A, B, payload);
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        self.fabric.advance(self.now, &mut self.out);
    }

    fn impair(&mut self, scope: Scope, impairment: Impairment) {
        self.fabric
            .change_rules(&mut self.out, |rules| rules.impair(scope, impairment));
    }

    /// What has arrived since the last call: port and payload.
    fn arrived(&mut self) -> Vec<(PortId, Vec<u8>)> {
        let deliveries = self.out.deliveries.drain(..);
        deliveries.map(|d| (d.to, d.frame[14..].to_vec())).collect()
    }

    fn drops(&mut self) -> Vec<DropReason> {
        let drops = self.out.drops.as_mut().expect("recorded").drain(..);
        drops.map(|drop| drop.reason).collect()
    }
}

fn frame(from: MacAddress, to: MacAddress, payload: &[u8]) -> Bytes {
    let mut frame = Vec::new();
    frame.extend(to.0);
    frame.extend(from.0);
    frame.extend([0x88, 0xb5]);
    frame.extend(payload);
    Bytes::from(frame)
}

fn latency(ms: u64) -> Impairment {
    Impairment {
        latency: Some(Duration::from_millis(ms)),
        ..Impairment::default()
    }
}

fn loss(percent: f64) -> Impairment {
    Impairment {
        loss: Probability::percent(percent),
        ..Impairment::default()
    }
}

#[test]
fn a_frame_for_a_known_station_goes_to_its_port_only() {
    let mut net = Net::new(1);
    net.send_a_to_b(b"x");
    assert_eq!(net.arrived(), [(net.ports[1], b"x".to_vec())]);
}

#[test]
fn a_frame_for_an_unknown_station_or_a_group_goes_to_all_others() {
    let mut net = Net::new(1);
    for to in [
        MacAddress::local(99),
        MacAddress::BROADCAST,
        MacAddress([1, 0, 0x5e, 0, 0, 1]),
    ] {
        net.send(net.ports[0], A, to, b"x");
        let ports: Vec<PortId> = net.arrived().into_iter().map(|(port, _)| port).collect();
        assert_eq!(ports, net.ports[1..]);
    }
}

#[test]
fn a_frame_for_a_station_behind_the_same_port_is_not_forwarded() {
    let mut net = Net::new(1);
    net.send(
        net.ports[0],
        MacAddress::local(7),
        MacAddress::BROADCAST,
        b"",
    );
    net.arrived();
    net.send(net.ports[0], A, MacAddress::local(7), b"x");
    assert_eq!(net.arrived(), []);
}

#[test]
fn latency_holds_in_the_direction_that_was_asked_for() {
    let mut net = Net::new(1);
    let [a, b, _] = net.ports;
    net.impair(Scope::path(a, b), latency(20));
    net.send_a_to_b(b"there");
    net.send(b, B, A, b"back");
    assert_eq!(net.arrived(), [(a, b"back".to_vec())]);
    net.wait(19);
    assert_eq!(net.arrived(), []);
    assert_eq!(net.fabric.next_due(), Some(Time::from_nanos(20_000_000)));
    net.wait(1);
    assert_eq!(net.arrived(), [(b, b"there".to_vec())]);
    let counters = net.fabric.path_counters(a, b).expect("ports");
    // One of them was sent before the latency was.
    assert_eq!((counters.delayed, counters.delivered), (1, 2));
}

#[test]
fn a_partition_drops_what_is_in_flight() {
    let mut net = Net::new(1);
    let [a, b, c] = net.ports;
    net.impair(Scope::ALL, latency(20));
    net.send_a_to_b(b"lost");
    net.send(a, A, C, b"kept");
    net.fabric
        .change_rules(&mut net.out, |rules| rules.partition(a, b));
    net.fabric
        .change_rules(&mut net.out, |rules| rules.unpartition(a, b));
    net.wait(20);
    assert_eq!(net.arrived(), [(c, b"kept".to_vec())]);
    assert_eq!(net.drops(), [DropReason::Partition]);
    net.send_a_to_b(b"healed");
    net.wait(20);
    assert_eq!(net.arrived(), [(b, b"healed".to_vec())]);
}

#[test]
fn an_isolated_port_and_one_without_carrier_hear_and_say_nothing() {
    let mut net = Net::new(1);
    let [a, b, _] = net.ports;
    net.fabric
        .change_rules(&mut net.out, |rules| rules.isolate(b));
    net.send_a_to_b(b"x");
    net.send(b, B, A, b"x");
    assert_eq!(net.arrived(), []);
    assert_eq!(net.drops(), [DropReason::Isolated, DropReason::Isolated]);
    net.fabric
        .change_rules(&mut net.out, |rules| rules.unisolate(b));
    net.fabric.set_link(b, false, &mut net.out).expect("a port");
    net.send(b, B, A, b"x");
    net.send(a, A, MacAddress::BROADCAST, b"x");
    assert_eq!(net.drops(), [DropReason::LinkDown, DropReason::LinkDown]);
    net.fabric.set_link(b, true, &mut net.out).expect("a port");
    net.out.clear();
    net.send_a_to_b(b"y");
    assert!(net.arrived().contains(&(b, b"y".to_vec())));
}

#[test]
fn frames_that_are_too_long_or_too_short_are_dropped_with_the_reason() {
    let mut net = Net::new(1);
    let small = PortSettings {
        mtu: 600,
        ..PortSettings::new("small")
    };
    let small = net.fabric.add_port(small);
    net.send(small, MacAddress::local(0xd), A, b"known");
    net.out.clear();
    net.send(net.ports[0], A, MacAddress::local(0xd), &[0; 601]);
    net.send_a_to_b(&[0; 1501]);
    let runt = Bytes::from_static(&[0; 13]);
    net.fabric
        .receive(net.now, net.ports[0], runt, &mut net.out)
        .expect("a port");
    assert_eq!(net.arrived(), []);
    let expected = [
        DropReason::TooLong,
        DropReason::TooLong,
        DropReason::TooShort,
    ];
    assert_eq!(net.drops(), expected);
    net.send_a_to_b(&[0; 1500]);
    assert_eq!(net.arrived().len(), 1);
    assert_eq!(
        net.fabric
            .port_counters(net.ports[0])
            .expect("a port")
            .tx_dropped,
        2
    );
}

#[test]
fn a_removed_port_takes_its_frames_stations_and_rules_along() {
    let mut net = Net::new(1);
    let [a, b, c] = net.ports;
    net.impair(Scope::to(b), latency(20));
    net.send_a_to_b(b"lost");
    net.fabric.remove_port(b, &mut net.out).expect("a port");
    assert_eq!(net.drops(), [DropReason::PortRemoved]);
    assert_eq!(net.fabric.rules().impairments().count(), 0);
    // B is unknown again, so all that are left hear the frame.
    net.send_a_to_b(b"x");
    assert_eq!(net.arrived(), [(c, b"x".to_vec())]);
    assert!(
        net.fabric
            .receive(net.now, b, Bytes::new(), &mut net.out)
            .is_err()
    );
    assert_eq!(net.fabric.ports().collect::<Vec<_>>(), [a, c]);
}

#[test]
fn impairments_leave_other_pairs_alone() {
    let mut net = Net::new(1);
    let [a, b, c] = net.ports;
    net.impair(Scope::path(a, b), loss(100.0));
    for _ in 0..100 {
        net.send_a_to_b(b"x");
        net.send(a, A, C, b"x");
        net.send(b, B, A, b"x");
    }
    let to = |port| move |arrived: &&(PortId, Vec<u8>)| arrived.0 == port;
    let arrived = net.arrived();
    assert_eq!(arrived.iter().filter(to(b)).count(), 0);
    assert_eq!(arrived.iter().filter(to(c)).count(), 100);
    assert_eq!(arrived.iter().filter(to(a)).count(), 100);
}

#[test]
fn reordered_frames_are_overtaken_and_duplicates_arrive_twice() {
    let mut net = Net::new(1);
    net.impair(
        Scope::ALL,
        Impairment {
            reorder: Probability::percent(50.0),
            duplicate: Probability::percent(50.0),
            ..Impairment::default()
        },
    );
    for n in 0..100 {
        net.send_a_to_b(&[n]);
    }
    net.wait(10);
    let arrived: Vec<u8> = net
        .arrived()
        .into_iter()
        .map(|(_, payload)| payload[0])
        .collect();
    assert!(!arrived.is_sorted());
    let counters = net
        .fabric
        .path_counters(net.ports[0], net.ports[1])
        .expect("ports");
    assert_eq!(arrived.len() as u64, 100 + counters.duplicated);
    assert!((30..=70).contains(&counters.duplicated), "{counters:?}");
    assert!((30..=70).contains(&counters.reordered), "{counters:?}");
}

#[test]
fn a_rate_limits_what_arrives_in_a_second() {
    let mut net = Net::new(1);
    net.impair(
        Scope::ALL,
        Impairment {
            rate: Some(1_000_000),
            ..Impairment::default()
        },
    );
    // 2 Mbit/s for 10 s.
    for _ in 0..10_000 {
        net.send_a_to_b(&[0; 236]);
        net.wait(1);
    }
    let bytes: usize = net
        .arrived()
        .iter()
        .map(|(_, payload)| payload.len() + 14)
        .sum();
    assert!((1_249_000..=1_250_000).contains(&bytes), "{bytes}");
    assert!(
        net.drops()
            .iter()
            .all(|reason| *reason == DropReason::QueueFull)
    );
}

#[test]
fn draws_depend_on_names_and_not_on_the_order_of_ports() {
    let lost = |names: [&str; 3]| {
        let mut fabric = Fabric::new(5);
        let ports = names.map(|name| (name, fabric.add_port(PortSettings::new(name))));
        let port = |wanted| {
            ports
                .iter()
                .find(|(name, _)| *name == wanted)
                .expect("a port")
                .1
        };
        let mut out = Output::default();
        fabric.change_rules(&mut out, |rules| rules.impair(Scope::ALL, loss(50.0)));
        let mut arrived = Vec::new();
        for n in 0..200_u8 {
            out.clear();
            let frame = frame(A, MacAddress::BROADCAST, &[n]);
            fabric
                .receive(Time::ZERO, port("a"), frame, &mut out)
                .expect("a port");
            arrived.push(
                out.deliveries
                    .iter()
                    .any(|delivery| delivery.to == port("b")),
            );
        }
        arrived
    };
    assert_eq!(lost(["a", "b", "c"]), lost(["c", "b", "a"]));
}

#[test]
fn a_saved_switch_is_refused_when_it_is_damaged_or_foreign() {
    let net = Net::new(1);
    let json = serde_json::to_value(net.fabric.freeze(net.now)).expect("serializable");
    let thaw = |json: serde_json::Value| {
        let frozen = serde_json::from_value(json).expect("the right shape");
        Fabric::thaw(frozen)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(thaw(json.clone()), Ok(()));
    let mut foreign = json.clone();
    foreign["version"] = 99.into();
    let error = thaw(foreign).expect_err("another version");
    assert_eq!(
        error,
        "the saved switch has version 99; this program reads version 2"
    );
    let mut damaged = json;
    damaged["paths"].as_array_mut().expect("an array").pop();
    let error = thaw(damaged).expect_err("damaged");
    assert_eq!(
        error,
        "the saved switch is damaged: not every pair of ports has a path"
    );
}
