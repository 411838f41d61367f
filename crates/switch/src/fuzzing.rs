//! What fuzzers and replayed corpora call: each function takes any bytes and must not panic.

use crate::capture::summarize;
use crate::{
    Fabric, FrozenFabric, Impairment, Output, PathCounters, PortId, PortSettings, Probability,
    Scope, Time, netdev,
};
use bytes::{Bytes, BytesMut};
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
