//! What a hop through the running switch costs, beside two sockets that are joined back to back.
//!
//! Prints rows for `make bench`: name, value, unit and remark, with tabs between them.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a benchmark")]

use bytes::BytesMut;
use provium_switch::shell::Switch;
use provium_switch::{MacAddress, PortSettings, netdev};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

const ROUNDS: usize = 20_000;
const FRAMES: usize = 200_000;
const LENGTH: usize = 1514;

/// A frame with its length, from one station to another.
fn encoded(from: u64, to: u64) -> BytesMut {
    let mut frame = vec![0; LENGTH];
    frame[..6].copy_from_slice(&MacAddress::local(to).0);
    frame[6..12].copy_from_slice(&MacAddress::local(from).0);
    let mut bytes = BytesMut::new();
    netdev::encode(&frame, &mut bytes);
    bytes
}

/// Microseconds from one end to the other: half of the median round trip.
fn microseconds(a: &mut UnixStream, b: &mut UnixStream) -> f64 {
    let (there, back) = (encoded(1, 2), encoded(2, 1));
    let mut echo = b.try_clone().expect("a socket");
    let echo = std::thread::spawn(move || {
        let mut buffer = vec![0; netdev::PREFIX + LENGTH];
        for _ in 0..ROUNDS {
            echo.read_exact(&mut buffer).expect("open");
            echo.write_all(&back).expect("open");
        }
    });
    let mut buffer = vec![0; netdev::PREFIX + LENGTH];
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            a.write_all(&there).expect("open");
            a.read_exact(&mut buffer).expect("open");
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    echo.join().expect("no panic");
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2] / 2.0
}

/// Gbit/s from one end to the other. The receiver acknowledges every 64 frames, so that no buffer overflows.
fn gigabits(a: &mut UnixStream, b: &mut UnixStream) -> f64 {
    const WINDOW: usize = 64;
    let (frame, ack) = (encoded(1, 2), encoded(2, 1));
    let mut sink = b.try_clone().expect("a socket");
    let sink = std::thread::spawn(move || {
        let mut buffer = vec![0; (netdev::PREFIX + LENGTH) * WINDOW];
        for _ in 0..FRAMES / WINDOW {
            sink.read_exact(&mut buffer).expect("open");
            sink.write_all(&ack).expect("open");
        }
    });
    let burst = frame.repeat(WINDOW);
    let mut buffer = vec![0; netdev::PREFIX + LENGTH];
    let start = Instant::now();
    a.write_all(&burst).expect("open");
    for _ in 1..FRAMES / WINDOW {
        a.write_all(&burst).expect("open");
        a.read_exact(&mut buffer).expect("open");
    }
    a.read_exact(&mut buffer).expect("open");
    let seconds = start.elapsed().as_secs_f64();
    sink.join().expect("no panic");
    (FRAMES / WINDOW * WINDOW * LENGTH * 8) as f64 / seconds / 1e9
}

fn row(name: &str, value: f64, unit: &str, remark: &str) {
    println!("{name}\t{value:.3}\t{unit}\t{remark}");
}

#[tokio::main]
async fn main() {
    let (mut a, mut b) = UnixStream::pair().expect("sockets");
    let direct = (microseconds(&mut a, &mut b), gigabits(&mut a, &mut b));

    let switch = Switch::start(1).expect("a switch");
    let mut ends = Vec::new();
    for name in ["a", "b"] {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        switch
            .connect(PortSettings::new(name), theirs)
            .await
            .expect("running");
        ends.push(ours);
    }
    let [a, b] = &mut ends[..] else { return };
    // So that both stations are known.
    b.write_all(&encoded(2, 1)).expect("open");
    a.read_exact(&mut vec![0; netdev::PREFIX + LENGTH])
        .expect("open");
    let switched = (microseconds(a, b), gigabits(a, b));

    row(
        "one way between sockets",
        direct.0,
        "us",
        "joined back to back",
    );
    row("one way through the switch", switched.0, "us", "");
    row(
        "added latency of the switch",
        switched.0 - direct.0,
        "us",
        "aim: below 20",
    );
    row(
        "throughput between sockets",
        direct.1,
        "Gbit/s",
        "joined back to back, 1,514 bytes",
    );
    row(
        "throughput through the switch",
        switched.1,
        "Gbit/s",
        "1,514 bytes",
    );
}
