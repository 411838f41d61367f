//! The running switch, with sockets in place of QEMU's.

#![expect(clippy::expect_used, reason = "tests")]

use bytes::{Bytes, BytesMut};
use provium_switch::shell::{FRAME_QUEUE, FrameOutcome, OUTPUT_LIMIT, Switch, SwitchStopped};
use provium_switch::{DropReason, Impairment, MacAddress, PortId, PortSettings, Scope, netdev};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const A: MacAddress = MacAddress::local(0xa);
const B: MacAddress = MacAddress::local(0xb);

/// The end of a socket at which QEMU would be.
struct Nic {
    port: PortId,
    socket: UnixStream,
    received: BytesMut,
}

impl Nic {
    async fn connect(switch: &Switch, name: &str) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let settings = PortSettings::new(name);
        let port = switch.connect(settings, theirs).await.expect("running");
        ours.set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a socket");
        Self {
            port,
            socket: ours,
            received: BytesMut::new(),
        }
    }

    fn send(&mut self, frame: &[u8]) {
        let mut bytes = BytesMut::new();
        netdev::encode(frame, &mut bytes);
        self.socket.write_all(&bytes).expect("open");
    }

    /// The next frame; `None` at the end of the stream.
    fn receive(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = netdev::decode(&mut self.received).expect("frames") {
                return Some(frame);
            }
            let mut bytes = [0; 4096];
            match self.socket.read(&mut bytes).expect("something within 20 s") {
                0 => return None,
                count => self.received.extend_from_slice(&bytes[..count]),
            }
        }
    }
}

fn frame(from: MacAddress, to: MacAddress, payload: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &[0x88, 0xb5], payload].concat()
}

fn latency(ms: u64) -> Impairment {
    Impairment {
        latency: Some(Duration::from_millis(ms)),
        ..Impairment::default()
    }
}

async fn impair(switch: &Switch, impairment: Impairment) {
    let change = move |fabric: &mut provium_switch::Fabric, out: &mut provium_switch::Output| {
        fabric.change_rules(out, |rules| rules.impair(Scope::ALL, impairment));
    };
    switch.with(change).await.expect("running");
}

#[tokio::test]
async fn frames_pass_from_socket_to_socket() {
    let switch = Switch::start(1).expect("a switch");
    let (mut a, mut b) = (
        Nic::connect(&switch, "a").await,
        Nic::connect(&switch, "b").await,
    );
    a.send(&frame(A, MacAddress::BROADCAST, b"who is there"));
    assert_eq!(b.receive().expect("open")[14..], *b"who is there");
    for n in 0..1_000_u32 {
        b.send(&frame(B, A, &n.to_be_bytes()));
    }
    for n in 0..1_000_u32 {
        assert_eq!(a.receive().expect("open")[14..], n.to_be_bytes());
    }
    let port = a.port;
    let counters = switch
        .with(move |fabric, _| fabric.port_counters(port))
        .await;
    let counters = counters.expect("running").expect("a port");
    assert_eq!((counters.rx_frames, counters.tx_frames), (1_000, 1));
}

#[tokio::test]
async fn a_delayed_frame_arrives_when_it_is_due() {
    let switch = Switch::start(1).expect("a switch");
    let (mut a, mut b) = (
        Nic::connect(&switch, "a").await,
        Nic::connect(&switch, "b").await,
    );
    impair(&switch, latency(30)).await;
    let sent = Instant::now();
    a.send(&frame(A, B, b"later"));
    b.receive().expect("open");
    // The upper bound is for a busy host; exactness is a property of the fabric.
    let elapsed = sent.elapsed();
    assert!(elapsed >= Duration::from_millis(30), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
}

#[tokio::test]
async fn a_frozen_switch_continues_in_another_one() {
    let switch = Switch::start(1).expect("a switch");
    let (mut a, b) = (
        Nic::connect(&switch, "a").await,
        Nic::connect(&switch, "b").await,
    );
    impair(&switch, latency(60_000)).await;
    let mut tap = switch.capture(None).await.expect("running");
    a.send(&frame(A, B, b"in flight"));
    tap.recv().await.expect("captured, so it was received");
    impair(&switch, latency(0)).await;
    let frozen = switch.freeze().await.expect("running");
    let json = serde_json::to_string(&frozen).expect("serializable");
    let restored = Switch::thaw(serde_json::from_str(&json).expect("the same")).expect("a switch");
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    restored.reconnect(b.port, theirs).await.expect("running");
    restored.resume().await.expect("running");
    let count = restored
        .with(|fabric, _| fabric.next_due())
        .await
        .expect("running");
    assert!(count.is_some(), "the frame is still in flight");
    // A frame that is not delayed passes it.
    let (script, _frames) = restored
        .open(PortSettings::new("script"))
        .await
        .expect("running");
    let sent = frame(MacAddress::local(7), MacAddress::BROADCAST, b"now");
    restored
        .send(script, Bytes::from(sent))
        .await
        .expect("running")
        .expect("a port");
    let mut nic = Nic {
        port: b.port,
        socket: ours,
        received: BytesMut::new(),
    };
    assert_eq!(nic.receive().expect("open")[14..], *b"now");
    drop(restored);
    assert_eq!(nic.receive(), None);
}

#[tokio::test]
async fn a_frozen_switch_moves_nothing_until_it_is_resumed() {
    let switch = Switch::start(1).expect("a switch");
    let (mut a, mut b) = (
        Nic::connect(&switch, "a").await,
        Nic::connect(&switch, "b").await,
    );
    switch.freeze().await.expect("running");
    a.send(&frame(A, MacAddress::BROADCAST, b"held"));
    // A call comes back after the thread has seen what came before it.
    for _ in 0..3 {
        let passed = switch
            .with(move |fabric, _| fabric.port_counters(b.port))
            .await;
        assert_eq!(passed.expect("running").expect("a port").rx_frames, 0);
    }
    switch.resume().await.expect("running");
    assert_eq!(b.receive().expect("open")[14..], *b"held");
}

#[tokio::test]
async fn a_receiver_that_does_not_read_does_not_delay_others() {
    let switch = Switch::start(1).expect("a switch");
    let mut a = Nic::connect(&switch, "a").await;
    let deaf = Nic::connect(&switch, "deaf").await;
    let mut b = Nic::connect(&switch, "b").await;
    // More than the switch and the sockets hold.
    let count = 4 * OUTPUT_LIMIT / 1_000;
    for n in 0..count as u32 {
        let payload = [&n.to_be_bytes()[..], &[0; 1_000]].concat();
        a.send(&frame(A, MacAddress::BROADCAST, &payload));
        let arrived = b.receive().expect("open");
        assert_eq!(arrived[14..18], n.to_be_bytes());
    }
    let port = deaf.port;
    let counters = switch
        .with(move |fabric, _| fabric.port_counters(port))
        .await;
    let counters = counters.expect("running").expect("a port");
    assert_eq!(counters.rx_frames, count as u64);
    assert!(counters.rx_dropped > 0);
}

#[tokio::test]
async fn a_script_sends_and_receives_and_a_capture_sees_both() {
    let switch = Switch::start(1).expect("a switch");
    let mut a = Nic::connect(&switch, "a").await;
    let (script, mut frames) = switch
        .open(PortSettings::new("script"))
        .await
        .expect("running");
    let mut tap = switch.capture(Some(a.port)).await.expect("running");
    a.send(&frame(A, MacAddress::BROADCAST, b"to all"));
    let (_, arrived) = frames.recv().await.expect("open");
    assert_eq!(arrived[14..], *b"to all");
    let answer = Bytes::from(frame(B, A, b"answer"));
    switch
        .send(script, answer.clone())
        .await
        .expect("running")
        .expect("a port");
    assert_eq!(a.receive().expect("open"), answer);
    let seen = [tap.recv().await, tap.recv().await].map(|frame| frame.expect("open"));
    assert_eq!((seen[0].from, seen[0].to), (a.port, None));
    assert_eq!((seen[1].from, seen[1].to), (script, Some(a.port)));
    assert!(seen[0].time <= seen[1].time);
    // Not read: bounded.
    for _ in 0..2 * FRAME_QUEUE {
        a.send(&frame(A, MacAddress::BROADCAST, b"more"));
    }
    a.send(&frame(A, MacAddress::BROADCAST, b"last"));
    let mut other = switch.capture(None).await.expect("running");
    a.send(&frame(A, MacAddress::BROADCAST, b"marker"));
    while other.recv().await.expect("open").frame[14..] != *b"marker" {}
    assert_eq!(frames.len(), FRAME_QUEUE);
}

#[tokio::test]
async fn the_end_of_a_socket_leaves_the_port() {
    let switch = Switch::start(1).expect("a switch");
    let mut a = Nic::connect(&switch, "a").await;
    let b = Nic::connect(&switch, "b").await;
    let port = b.port;
    let mut tap = switch.capture(Some(port)).await.expect("running");
    drop(b);
    a.send(&frame(A, MacAddress::BROADCAST, b"x"));
    tap.recv().await.expect("captured");
    assert_eq!(switch.is_connected(port).await, Ok(false));
    assert_eq!(switch.remove(port).await, Ok(Ok(())));
    assert!(switch.remove(port).await.expect("running").is_err());
}

#[tokio::test]
async fn queued_calls_are_carried_out_in_their_order() {
    let switch = Switch::start(1).expect("a switch");
    let (mut a, mut b) = (
        Nic::connect(&switch, "a").await,
        Nic::connect(&switch, "b").await,
    );
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let (before, port) = (b.port, a.port);
    switch.reconnect_later(before, theirs).expect("running");
    let down = move |fabric: &mut provium_switch::Fabric, out: &mut provium_switch::Output| {
        fabric.set_link(port, false, out).expect("a port");
    };
    switch.change_later(down).expect("running");
    assert_eq!(b.receive(), None, "its socket was replaced");
    let mut again = Nic {
        port: before,
        socket: ours,
        received: BytesMut::new(),
    };
    let status = switch.status().await.expect("running");
    assert!(!status.port("a").expect("a port").link_is_up);
    let up = move |fabric: &mut provium_switch::Fabric, out: &mut provium_switch::Output| {
        fabric.set_link(port, true, out).expect("a port");
    };
    switch.change_later(up).expect("running");
    switch.is_connected(before).await.expect("running");
    a.send(&frame(A, MacAddress::BROADCAST, b"to the new socket"));
    assert_eq!(again.receive().expect("open")[14..], *b"to the new socket");
    switch.remove_later(before).expect("running");
    assert_eq!(again.receive(), None);
    assert_eq!(switch.status().await.expect("running").ports.len(), 1);
}

#[tokio::test]
async fn a_port_that_does_not_exist_cannot_be_connected() {
    let switch = Switch::start(1).expect("a switch");
    let a = Nic::connect(&switch, "a").await;
    switch
        .remove(a.port)
        .await
        .expect("running")
        .expect("a port");
    let (_ours, theirs) = UnixStream::pair().expect("sockets");
    assert!(switch.reconnect(a.port, theirs).await.is_err());
    assert!(switch.reopen(a.port).await.expect("running").is_err());
}

#[tokio::test]
async fn a_restored_switch_waits_for_its_ports() {
    let switch = Switch::start(1).expect("a switch");
    let mut a = Nic::connect(&switch, "a").await;
    let (script, _frames) = switch
        .open(PortSettings::new("script"))
        .await
        .expect("running");
    impair(&switch, latency(1)).await;
    let mut tap = switch.capture(None).await.expect("running");
    switch.freeze().await.expect("running");
    // Held, since the switch is frozen, and not a part of what is saved below.
    switch
        .sender(script)
        .send([Bytes::from(frame(B, A, b"after"))])
        .expect("running");
    switch.resume().await.expect("running");
    tap.recv().await.expect("captured");
    assert_eq!(a.receive().expect("open")[14..], *b"after");
    impair(&switch, latency(60_000)).await;
    a.send(&frame(A, MacAddress::BROADCAST, b"in flight"));
    tap.recv().await.expect("captured");
    let frozen = switch.freeze().await.expect("running");
    let restored = Switch::thaw(frozen.clone()).expect("a switch");
    // Its time does not pass before it is resumed: what is in flight is not lost while nothing is connected.
    let mut frames = restored
        .reopen(script)
        .await
        .expect("running")
        .expect("a port");
    restored.resume().await.expect("running");
    restored
        .with(|fabric, out| {
            let due = fabric.next_due().expect("in flight");
            fabric.advance(due, out);
        })
        .await
        .expect("running");
    assert_eq!(frames.recv().await.expect("open").1[14..], *b"in flight");
    let other = Switch::thaw(frozen).expect("a switch");
    let due = other.with(|fabric, _| fabric.next_due()).await;
    assert!(due.expect("running").is_some());
    assert_eq!(due, switch.with(|fabric, _| fabric.next_due()).await);
}

#[tokio::test]
async fn the_last_frames_are_listed_with_what_became_of_them() {
    let switch = Switch::start(1).expect("a switch");
    let mut a = Nic::connect(&switch, "a").await;
    let mut b = Nic::connect(&switch, "b").await;
    a.send(&frame(A, MacAddress::BROADCAST, b"arrives"));
    b.receive().expect("open");
    let (from, to) = (a.port, b.port);
    let cut = move |fabric: &mut provium_switch::Fabric, out: &mut provium_switch::Output| {
        fabric.change_rules(out, |rules| rules.partition(from, to));
    };
    switch.with(cut).await.expect("running");
    let mut tap = switch.capture(None).await.expect("running");
    a.send(&frame(A, B, b"is dropped"));
    tap.recv().await.expect("captured");
    let recent = switch.recent().await.expect("running");
    let shown: Vec<_> = recent
        .iter()
        .map(|frame| (frame.from, frame.to, frame.outcome, frame.summary()))
        .collect();
    let dropped = FrameOutcome::Dropped(DropReason::Partition);
    let text = |length: usize| format!("ethertype 0x88b5, {length} bytes");
    assert_eq!(
        shown,
        [
            (from, Some(to), FrameOutcome::Delivered, text(21)),
            (from, Some(to), dropped, text(24)),
        ]
    );
}

#[tokio::test]
async fn a_capture_that_is_read_late_has_all_frames() {
    let switch = Switch::start(1).expect("a switch");
    let mut a = Nic::connect(&switch, "a").await;
    let mut late = switch.capture(Some(a.port)).await.expect("running");
    let mut live = switch.capture(None).await.expect("running");
    let count = 5 * FRAME_QUEUE as u32;
    for n in 0..count {
        a.send(&frame(A, B, &n.to_be_bytes()));
    }
    for _ in 0..count {
        live.recv().await.expect("open");
    }
    for n in 0..count {
        assert_eq!(late.try_recv().expect("kept").frame[14..], n.to_be_bytes());
    }
    assert_eq!((late.lost(), late.try_recv()), (0, None));
}

#[tokio::test]
async fn a_sender_does_not_keep_the_switch_running() {
    let switch = Switch::start(1).expect("a switch");
    let (port, mut frames) = switch.open(PortSettings::new("a")).await.expect("running");
    let sender = switch.sender(port);
    drop(switch);
    assert_eq!(frames.recv().await, None);
    let sent = sender.send([Bytes::from(frame(A, B, b"x"))]);
    assert_eq!(sent, Err(SwitchStopped));
}
