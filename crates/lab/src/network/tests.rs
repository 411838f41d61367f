//! Bridges whose members are ports, without a guest.

use super::saved::{FrozenBridges, RestoringBridge, resume_bridges};
use super::{Bridge, BridgeOptions, MemberPaths, Partition, Port};
use crate::environment::Environment;
use crate::guest::stream::Site;
use crate::resource::Scope;
use crate::test_file::TestFileContext;
use provium_events::Sink;
use provium_switch::shell::{CAPTURE_LIMIT, FRAME_OVERHEAD};
use provium_switch::{Impairment, MAX_MTU};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// Longer than any frame needs, on any host.
const LONG: Duration = Duration::from_secs(30);

struct Fixture {
    file: Arc<TestFileContext>,
    scope: Scope,
}

impl Fixture {
    fn new() -> Self {
        let runtime = tokio::runtime::Handle::current();
        let environment = Environment::without_machines(Vec::new(), Sink::discard(), runtime);
        let file = TestFileContext::new(Arc::new(environment), "a.test.lua".to_owned());
        Self {
            file: Arc::new(file),
            scope: Scope::file("a.test.lua"),
        }
    }

    fn bridge(&self, name: &str, options: BridgeOptions) -> Bridge {
        let path = format!("provium/{name}");
        Bridge::create(&self.file, &self.scope, &path, name, options).unwrap()
    }

    async fn port(&self, bridge: &Bridge, name: &str) -> Port {
        bridge.port(&self.scope, name, None, None).await.unwrap()
    }
}

fn frame(from: &Port, to: &Port, payload: &[u8]) -> Vec<u8> {
    let [to, from] = [to, from].map(|port| port.addresses().mac.0);
    [&to[..], &from[..], b"\x88\xb5", payload].concat()
}

async fn sends(from: &Port, to: &Port, payload: &[u8]) {
    from.send(frame(from, to, payload)).await.unwrap();
}

async fn receives(port: &Port) -> Vec<u8> {
    let received = port.recv(LONG).await.unwrap().expect("a frame in time");
    received.bytes[14..].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_get_addresses_and_give_them_back() {
    let fixture = Fixture::new();
    let lan = fixture.bridge("lan", BridgeOptions::default());
    let wan = fixture.bridge("wan", BridgeOptions::default());
    let a = fixture.port(&lan, "a").await;
    let b = fixture.port(&lan, "b").await;
    assert_eq!(a.addresses().host.ipv4, Ipv4Addr::new(10, 0, 1, 2));
    assert_eq!(b.addresses().host.ipv4, Ipv4Addr::new(10, 0, 1, 3));
    assert_eq!(b.addresses().host.ipv6.to_string(), "fd00:0:0:1::3");
    assert_ne!(a.addresses().mac, b.addresses().mac);
    assert_eq!(wan.subnet().to_string(), "10.0.2.0/24 and fd00:0:0:2::/64");
    let mac = a.addresses().mac;
    a.close().await.unwrap();
    assert_eq!(lan.members(), ["b"]);
    let again = fixture.port(&lan, "a").await;
    assert_eq!(again.addresses().mac, mac, "it depends on the names only");
    assert_eq!(again.addresses().host.ipv4, Ipv4Addr::new(10, 0, 1, 2));
    let taken = lan.port(&fixture.scope, "b", None, None).await;
    let taken = taken.unwrap_err().to_string();
    assert!(taken.contains("`b` is attached to it already"), "{taken}");
    let outside = Some(Ipv4Addr::new(10, 9, 9, 9));
    let outside = lan.port(&fixture.scope, "c", None, outside).await;
    let outside = outside.unwrap_err().to_string();
    assert!(outside.contains("10.9.9.9 is not a host of"), "{outside}");
    lan.close().await.unwrap();
    let closed = lan.rules().reset().await.unwrap_err().to_string();
    assert_eq!(closed, "bridge `lan`: reset(): the bridge is closed");
    let next = fixture.bridge("next", BridgeOptions::default());
    assert_eq!(next.subnet().number(), 1, "the number was given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_drops_frames_in_its_directions_only() {
    let fixture = Fixture::new();
    let lan = fixture.bridge("lan", BridgeOptions::default());
    let a = fixture.port(&lan, "a").await;
    let b = fixture.port(&lan, "b").await;
    // The switch learns where both are.
    sends(&a, &b, b"hello").await;
    assert_eq!(receives(&b).await, b"hello");
    let paths = MemberPaths {
        from: Some("a".to_owned()),
        to: Some("b".to_owned()),
    };
    let cut = Partition::Paths(paths);
    lan.rules().partition(&cut).await.unwrap();
    assert!(lan.rules().is_partitioned("a", "b").await.unwrap());
    assert!(!lan.rules().is_partitioned("b", "a").await.unwrap());
    sends(&a, &b, b"lost").await;
    sends(&b, &a, b"back").await;
    assert_eq!(receives(&a).await, b"back");
    lan.rules().unpartition(&cut).await.unwrap();
    sends(&a, &b, b"again").await;
    assert_eq!(receives(&b).await, b"again", "what was lost stays lost");
    let unknown = Partition::Pair("a".to_owned(), "bb".to_owned());
    let unknown = lan.rules().partition(&unknown).await.unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "bridge `lan`: partition(): `bb` is not attached to it; did you mean `b`?"
    );
    let twice = [vec!["a".to_owned()], vec!["a".to_owned()]];
    let twice = lan.rules().partition_groups(&twice).await.unwrap_err();
    assert!(twice.to_string().contains("`a` is in two groups"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_bridge_has_rules_and_frames_in_flight() {
    let fixture = Fixture::new();
    let lan = fixture.bridge("lan", BridgeOptions::default());
    let a = fixture.port(&lan, "a").await;
    let b = fixture.port(&lan, "b").await;
    let slow = Impairment {
        latency: Some(Duration::from_millis(200)),
        ..Impairment::default()
    };
    let all = MemberPaths::default();
    lan.rules().impair("impair()", &all, slow).await.unwrap();
    let site = Site {
        file: "a.test.lua".to_owned(),
        line: 1,
    };
    let capture = lan.capture(&fixture.scope, site).await.unwrap();
    sends(&a, &b, b"delayed").await;
    let frozen = FrozenBridges::freeze(vec![lan.clone()]).await.unwrap();
    let saved = frozen.saved[0].clone();
    drop(frozen);
    assert_eq!(receives(&b).await, b"delayed", "the original continues");

    lan.rules().reset().await.unwrap();
    let text = serde_json::to_string(&saved).unwrap();
    let saved = serde_json::from_str(&text).unwrap();
    let restoring = RestoringBridge::new(lan.clone(), saved).await.unwrap();
    assert_eq!(lan.rules().impairments().await.unwrap(), []);
    restoring.commit([]);
    resume_bridges(&[restoring]);
    let rules = lan.rules().impairments().await.unwrap();
    assert_eq!(rules, [(all, slow)]);
    assert_eq!(receives(&b).await, b"delayed", "it was in flight");
    sends(&a, &b, b"later").await;
    assert_eq!(receives(&b).await, b"later", "ports continue");
    let captured = capture.packets().await.unwrap();
    let captured = captured.iter().map(|packet| packet.summary.length);
    assert_eq!(captured.collect::<Vec<_>>(), [14 + 7, 14 + 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_that_is_read_as_a_stream_reports_each_gap_once() {
    let fixture = Fixture::new();
    let options = BridgeOptions {
        mtu: Some(MAX_MTU),
        ..BridgeOptions::default()
    };
    let lan = fixture.bridge("lan", options);
    let a = fixture.port(&lan, "a").await;
    let b = fixture.port(&lan, "b").await;
    let site = Site {
        file: "a.test.lua".to_owned(),
        line: 1,
    };
    let capture = lan.capture(&fixture.scope, site).await.unwrap();
    let payload = vec![0; MAX_MTU];
    let fits = CAPTURE_LIMIT / (frame(&a, &b, &payload).len() + FRAME_OVERHEAD);
    for _ in 0..fits + 5 {
        sends(&a, &b, &payload).await;
    }
    // The switch answers when it has passed on what came before.
    lan.rules().reset().await.unwrap();
    let lines = capture.lines();
    let mut read = 0;
    let error = loop {
        match lines.next(LONG).await {
            Ok(piece) => read += text_lines(&piece.expect("what was kept")),
            Err(error) => break error.to_string(),
        }
    };
    assert_eq!(read, fits, "what precedes the gap comes first");
    let expected = "capture of bridge `lan`: read(): 5 frames were lost, because more came than a capture keeps";
    assert!(error.starts_with(expected), "{error}");
    assert_eq!(lines.next(Duration::ZERO).await.unwrap(), None, "once");
    assert!(!lines.eof());
    sends(&a, &b, b"after").await;
    let after = lines.next(LONG).await.unwrap().expect("a line in time");
    assert_eq!(text_lines(&after), 1);
    let packets = capture.packets().await.unwrap_err().to_string();
    assert!(packets.contains("5 frames were lost"), "{packets}");
    capture.close().await.unwrap();
    assert!(lines.is_closed());
}

fn text_lines(piece: &[u8]) -> usize {
    piece.iter().filter(|byte| **byte == b'\n').count()
}
