//! The running router, between two switches with scripts as their stations.

#![expect(clippy::expect_used, reason = "tests")]

use bytes::Bytes;
use provium_switch::capture::summarize;
use provium_switch::router::{InterfaceId, InterfaceSettings};
use provium_switch::services::{DnsServer, DnsTable};
use provium_switch::shell::{OwnedPort, PortSource, RouterTask, Switch};
use provium_switch::{MacAddress, PortSettings};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const ROUTER: MacAddress = MacAddress::local(0x100);

/// A segment with a station, whose address ends in 2, and the router, whose address ends in 1.
struct Segment {
    switch: Switch,
    station: OwnedPort,
    number: u8,
}

impl Segment {
    async fn start(number: u8) -> Self {
        let switch = Switch::start(1).expect("a switch");
        let source = PortSource::New(PortSettings::new("station"));
        let station = OwnedPort::open(&switch, source).await.expect("running");
        Self {
            switch,
            station,
            number,
        }
    }

    fn settings(&self) -> InterfaceSettings {
        InterfaceSettings {
            mac: ROUTER,
            ipv4: Some((self.address(1), 24)),
            ipv6: None,
            mtu: 1500,
        }
    }

    async fn route(&self, router: &RouterTask) -> InterfaceId {
        let port = PortSource::New(PortSettings::new("router"));
        let added = router.add(&self.switch, port, self.settings()).await;
        added.expect("running")
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, self.number, host)
    }

    fn mac(&self) -> MacAddress {
        MacAddress::local(self.number.into())
    }

    fn send(&self, ethertype: u16, payload: &[u8]) {
        let header = [&ROUTER.0[..], &self.mac().0, &ethertype.to_be_bytes()].concat();
        let frame = Bytes::from([&header, payload].concat());
        self.station.send([frame]).expect("running");
    }

    /// The router's question for the station, which it answers; then the next frame.
    async fn answer_arp(&mut self) -> Bytes {
        let asked = self.receive().await.expect("a question");
        assert!(summarize(&asked).text.starts_with("ARP who-has"));
        let header = [0, 1, 8, 0, 6, 4, 0, 2];
        let own = [&self.mac().0[..], &self.address(2).octets()].concat();
        let router = [&ROUTER.0[..], &self.address(1).octets()].concat();
        self.send(0x0806, &[&header[..], &own, &router].concat());
        self.receive().await.expect("what waited for the answer")
    }

    async fn receive(&mut self) -> Option<Bytes> {
        let frame = tokio::time::timeout(Duration::from_secs(20), self.station.recv()).await;
        frame.expect("a frame within 20 s").map(|(_, frame)| frame)
    }
}

/// A UDP datagram.
fn udp(from: Ipv4Addr, to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let length = |more: usize| u16::try_from(payload.len() + more).expect("short");
    let mut packet = vec![0x45, 0];
    packet.extend(length(28).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.0.octets());
    let sum: u32 = packet
        .chunks(2)
        .map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    packet.extend(4000_u16.to_be_bytes());
    packet.extend(to.1.to_be_bytes());
    packet.extend(length(8).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

#[tokio::test]
async fn packets_pass_between_switches_that_are_joined() {
    let (mut a, mut b) = (Segment::start(1).await, Segment::start(2).await);
    let router = RouterTask::start();
    let (left, right) = (a.route(&router).await, b.route(&router).await);
    let packet = udp(a.address(2), (b.address(2), 9), b"hello");
    a.send(0x0800, &packet);
    let report = a.answer_arp().await;
    assert_eq!(report[34..36], [3, 0], "the networks are not joined");
    let joined = router.with(move |router| router.join(left, right)).await;
    joined.expect("running");
    a.send(0x0800, &packet);
    let arrived = b.answer_arp().await;
    assert!(arrived.ends_with(b"hello"));
    assert_eq!(arrived[..6], b.mac().0);
    // An answer, now that both stations are known.
    b.send(0x0800, &udp(b.address(2), (a.address(2), 9), b"good day"));
    assert!(a.receive().await.expect("a frame").ends_with(b"good day"));
    router.remove(right).await.expect("running");
    a.send(0x0800, &packet);
    assert_eq!(a.receive().await.expect("a report")[34..36], [3, 0]);
    let status = b.switch.status().await.expect("running");
    assert!(status.port("router").is_none());
}

#[tokio::test]
async fn a_station_that_does_not_answer_is_reported_in_time() {
    let (mut a, b) = (Segment::start(1).await, Segment::start(2).await);
    let router = RouterTask::start();
    let (left, right) = (a.route(&router).await, b.route(&router).await);
    router
        .change_later(move |router| router.join(left, right))
        .expect("running");
    a.send(0x0800, &udp(a.address(2), (b.address(7), 9), b"hello"));
    let report = a.answer_arp().await;
    assert_eq!(report[34..36], [3, 1]);
}

#[tokio::test]
async fn the_dns_service_answers_at_the_address_of_the_router() {
    let mut a = Segment::start(1).await;
    let router = RouterTask::start();
    let id = a.route(&router).await;
    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01b\x03lan\0\0\x01\0\x01";
    let packet = udp(a.address(2), (a.address(1), 53), question);
    a.send(0x0800, &packet);
    let report = a.answer_arp().await;
    assert_eq!(report[34..36], [3, 3], "no service listens there");
    let mut table = DnsTable::default();
    table.insert(IpAddr::from(a.address(2)), ["b.lan"]);
    let set = router.with(move |router| {
        let services = router.services_mut(id).expect("an interface");
        services.dns = Some(DnsServer { table });
    });
    set.await.expect("running");
    a.send(0x0800, &packet);
    let answer = a.receive().await.expect("an answer");
    assert_eq!(answer[42..44], [0x12, 0x34]);
    assert!(answer.ends_with(&a.address(2).octets()));
}

#[tokio::test]
async fn a_router_ends_with_its_handle_and_its_ports_can_be_taken_again() {
    let mut a = Segment::start(1).await;
    let router = RouterTask::start();
    a.route(&router).await;
    let port = a.switch.status().await.expect("running");
    let port = port.port("router").expect("a port").id;
    let frozen = a.switch.freeze().await.expect("running");
    a.switch.resume().await.expect("running");
    router.close().await;
    assert_eq!(a.switch.status().await.expect("running").ports.len(), 1);
    let switch = Switch::thaw(frozen).expect("a switch");
    let station = switch.status().await.expect("running");
    let station = PortSource::Existing(station.port("station").expect("a port").id);
    a.station = OwnedPort::open(&switch, station).await.expect("a port");
    let router = RouterTask::start();
    let added = router.add(&switch, PortSource::Existing(port), a.settings());
    added.await.expect("a port");
    switch.resume().await.expect("running");
    let target = [&[0; 6][..], &a.address(1).octets()].concat();
    let sender = [&a.mac().0[..], &a.address(2).octets()].concat();
    let question = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &sender, &target].concat();
    a.send(0x0806, &question);
    let answer = a.receive().await.expect("an answer");
    assert_eq!(
        summarize(&answer).text,
        "ARP reply 10.0.1.1 is here, 42 bytes"
    );
    drop(switch);
    assert_eq!(a.receive().await, None);
}
