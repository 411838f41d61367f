//! Frames and bits per second through the switch alone, on one core.
//!
//! Prints rows for `make bench`: name, value, unit and remark, with tabs between them.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark")]

use bytes::Bytes;
use provium_switch::{
    Fabric, Impairment, MacAddress, Output, PortId, PortSettings, Probability, Scope, Time,
};
use std::hint::black_box;
use std::time::{Duration, Instant};

const FRAMES: u64 = 2_000_000;

struct Net {
    fabric: Fabric,
    ports: Vec<PortId>,
    out: Output,
}

impl Net {
    fn new(ports: u64) -> Self {
        let mut fabric = Fabric::new(1);
        let ports: Vec<PortId> = (0..ports)
            .map(|n| fabric.add_port(PortSettings::new(format!("vm-{n}"))))
            .collect();
        let mut net = Self {
            fabric,
            ports,
            out: Output::default(),
        };
        for n in 0..net.ports.len() {
            net.send(Time::ZERO, n, frame(n, None, 64));
        }
        net
    }

    fn send(&mut self, now: Time, from: usize, frame: Bytes) {
        let port = self.ports[from];
        self.fabric
            .receive(now, port, frame, &mut self.out)
            .expect("a port");
        black_box(&self.out.deliveries);
        self.out.clear();
    }

    /// Seconds for [`FRAMES`] frames of this length, each station to the next.
    fn seconds(&mut self, length: usize) -> f64 {
        let count = self.ports.len();
        let frames: Vec<Bytes> = (0..count)
            .map(|n| frame(n, Some((n + 1) % count), length))
            .collect();
        let start = Instant::now();
        for n in 0..FRAMES {
            let from = n as usize % count;
            self.send(Time::from_nanos(n * 300), from, frames[from].clone());
        }
        start.elapsed().as_secs_f64()
    }
}

fn frame(from: usize, to: Option<usize>, length: usize) -> Bytes {
    let mut frame = vec![0; length];
    let station = |n: usize| MacAddress::local(n as u64 + 1);
    frame[..6].copy_from_slice(&to.map_or(MacAddress::BROADCAST, station).0);
    frame[6..12].copy_from_slice(&station(from).0);
    Bytes::from(frame)
}

fn row(name: &str, value: f64, unit: &str, remark: &str) {
    println!("{name}\t{value:.3}\t{unit}\t{remark}");
}

fn main() {
    for ports in [2, 16] {
        let mut net = Net::new(ports);
        let seconds = net.seconds(64);
        let name = format!("switch alone, {ports} ports, 64 bytes");
        row(
            &name,
            FRAMES as f64 / seconds / 1e6,
            "Mpps",
            "aim: 3 at least",
        );
        let seconds = net.seconds(1514);
        let name = format!("switch alone, {ports} ports, 1,500 bytes");
        let gigabits = FRAMES as f64 * 1514.0 * 8.0 / seconds / 1e9;
        row(&name, gigabits, "Gbit/s", "aim: 20 at least");
    }
    let mut net = Net::new(2);
    let impairment = Impairment {
        latency: Some(Duration::from_micros(100)),
        jitter: Some(Duration::from_micros(10)),
        loss: Probability::percent(1.0),
        rate: Some(10_000_000_000),
        ..Impairment::default()
    };
    let mut out = Output::default();
    net.fabric
        .change_rules(&mut out, |rules| rules.impair(Scope::ALL, impairment));
    let seconds = net.seconds(64);
    row(
        "switch alone, with latency, jitter, loss, rate",
        FRAMES as f64 / seconds / 1e6,
        "Mpps",
        "2 ports, 64 bytes",
    );
}
