//! Greeting, transports, reboots, resync, the end.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use provium_guest::{
    CallError, Channel, ChannelError, ModuleProvider, ModulesFuture, NoModules, ResyncCause,
};
use provium_protocol::frame::SYNC;
use provium_protocol::message::ModuleFile;
use provium_protocol::op::{
    ClockGet, DiskConfig, DiskNode, HostEntry, NicCounters, ReadNicCounters, SetDisks, SetIdentity,
    SetNetwork,
};
use provium_protocol::{
    AgentOp, CallId, Frame, FrameKind, GuestRequest, Hello, HostReply, Lane, Op, Reply, codec,
};
use provium_testkit::{BUILD, FakeAgent, agent_hello, host_hello};
use serde_bytes::ByteBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);

async fn connect() -> (Channel, FakeAgent) {
    let (host, mut agent) = FakeAgent::pair();
    let establish = Channel::establish(vec![host], host_hello(), BUILD, Arc::new(NoModules));
    let (established, _) = tokio::join!(timeout(LONG, establish), agent.greet());
    (established.unwrap().unwrap().0, agent)
}

fn reason(error: CallError) -> String {
    error
        .channel()
        .map(ToString::to_string)
        .unwrap_or_else(|| panic!("{error:?}"))
}

#[tokio::test]
async fn the_first_transport_that_speaks_is_used() {
    let (virtio, mut silent) = FakeAgent::pair();
    let (uart, mut agent) = FakeAgent::pair();
    let establish =
        Channel::establish(vec![virtio, uart], host_hello(), BUILD, Arc::new(NoModules));
    let talk = async {
        agent.send_bytes(b"Linux version 6.1\r\n\xff").await;
        agent.greet().await
    };
    let (established, heard) = tokio::join!(timeout(LONG, establish), talk);
    let (channel, hello) = established.unwrap().unwrap();
    assert_eq!(channel.transport(), 1);
    assert_eq!((hello.session, heard.session != 0), (heard.session, true));
    assert_eq!(silent.next_item().await, None, "the other was dropped");
}

#[tokio::test]
async fn closed_transports_are_reported() {
    let (host, agent) = FakeAgent::pair();
    drop(agent);
    let establish = Channel::establish(vec![host], host_hello(), BUILD, Arc::new(NoModules));
    let error = timeout(LONG, establish).await.unwrap().unwrap_err();
    assert!(matches!(error, ChannelError::NoAgent), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn the_host_repeats_itself_until_it_is_heard() {
    let (host, mut agent) = FakeAgent::pair();
    let establish = Channel::establish(vec![host], host_hello(), BUILD, Arc::new(NoModules));
    let talk = async {
        agent.say_hello(0).await;
        let first = agent.host_hello().await;
        let second = agent.host_hello().await;
        assert_eq!(first.session, second.session);
        // Both are answered; the second answer comes when the session is open already.
        agent.say_hello(first.session).await;
        agent.say_hello(second.session).await;
    };
    let (established, ()) = tokio::join!(establish, talk);
    let (channel, _) = established.unwrap();
    let (pinged, ()) = tokio::join!(channel.ping(), async {
        let ping = agent.next_frame().await;
        agent
            .send(&Frame::new(
                FrameKind::Pong,
                ping.lane,
                ping.call,
                Vec::new(),
            ))
            .await;
    });
    pinged.unwrap();
}

#[tokio::test]
async fn an_agent_of_another_build_is_refused_with_both_versions_and_a_way_out() {
    for (protocol, build) in [(99, BUILD), (1, "other-build")] {
        let (host, mut agent) = FakeAgent::pair();
        agent.set_hello(Hello {
            protocol,
            build: build.to_owned(),
            ..agent_hello(0)
        });
        let establish = Channel::establish(vec![host], host_hello(), BUILD, Arc::new(NoModules));
        let (error, ()) = tokio::join!(timeout(LONG, establish), agent.say_hello(0));
        let text = error.unwrap().unwrap_err().to_string();
        for part in [&protocol.to_string(), build, BUILD, "cold = true"] {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_greeting_is_reported_when_the_time_is_over() {
    let (host, mut agent) = FakeAgent::pair();
    let establish = Channel::establish(vec![host], host_hello(), BUILD, Arc::new(NoModules));
    let talk = async {
        let mut odd = SYNC.to_vec();
        let words = codec::encode(&("a hello", "of a later age"));
        Frame::new(FrameKind::Hello, Lane::AGENT, CallId(0), words).encode(&mut odd);
        // One is lost on a bad line. Four are another agent's.
        for _ in 0..4 {
            agent.send_bytes(&odd).await;
        }
    };
    let (error, ()) = tokio::join!(timeout(LONG, establish), talk);
    assert!(matches!(error.unwrap(), Err(ChannelError::Greeting)));
}

#[tokio::test]
async fn a_reboot_ends_all_calls_and_a_resync_begins_a_session() {
    let (channel, mut agent) = connect().await;
    let mut announcements = channel.announcements();
    announcements.mark_unchanged();
    let pending = tokio::spawn({
        let channel = channel.clone();
        async move { channel.lane(Lane::VM).call(ClockGet).await }
    });
    let (old, _) = agent.next_request().await;
    // The guest dies in the middle of a frame, whose rest the announcement is not.
    agent.say_hello(0).await;
    timeout(LONG, announcements.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(announcements.borrow().as_ref().unwrap().number, 2);
    assert_eq!(
        reason(pending.await.unwrap().unwrap_err()),
        "the guest was rebooted"
    );
    let late = channel.lane(Lane::VM).call(ClockGet).await.unwrap_err();
    assert_eq!(reason(late), "the guest was rebooted");
    assert!(channel.closed().borrow().is_none(), "a resync recovers it");

    let talk = async {
        let hello = agent.host_hello().await;
        // Frames of the old session may still come, and are ignored.
        agent.reply(&old, Ok(Reply::Clock(1))).await;
        agent.say_hello(hello.session).await;
        let (frame, _) = agent.next_request().await;
        agent.reply(&frame, Ok(Reply::Clock(2))).await;
    };
    let again = async {
        channel
            .resync(host_hello(), ResyncCause::Reboot)
            .await
            .unwrap();
        channel.lane(Lane::VM).call(ClockGet).await.unwrap()
    };
    let (clock, ()) = tokio::join!(timeout(LONG, again), talk);
    assert_eq!(clock.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_announcement_swallowed_by_half_a_frame_is_done_without() {
    let (channel, mut agent) = connect().await;
    let whole = Frame::data(
        Lane::VM,
        CallId(1),
        provium_protocol::StreamId::Output,
        vec![0; 5000],
    );
    agent.send_bytes(&whole.to_bytes()[..100]).await;
    agent.say_hello(0).await;
    let talk = async {
        let hello = agent.host_hello().await;
        agent.say_hello(hello.session).await;
    };
    let (resynced, ()) = tokio::join!(channel.resync(host_hello(), ResyncCause::Reboot), talk);
    resynced.unwrap();
}

#[tokio::test]
async fn an_agent_that_listens_is_greeted_without_an_announcement() {
    let (channel, mut agent) = connect().await;
    let talk = async {
        let hello = agent.host_hello().await;
        agent.say_hello(hello.session).await;
    };
    let (resynced, ()) = tokio::join!(channel.resync(host_hello(), ResyncCause::Silence), talk);
    resynced.unwrap();
}

#[tokio::test]
async fn the_identity_after_a_reboot_is_set_before_any_other_call() {
    let (channel, mut agent) = connect().await;
    let mut announcements = channel.announcements();
    announcements.mark_unchanged();
    agent.say_hello(0).await;
    announcements.changed().await.unwrap();
    let mut closed = channel.closed();
    // A caller that waits for the new session, and makes a call as soon as it is open.
    let eager = async {
        while channel.reason().is_some() {
            closed.changed().await.unwrap();
        }
        channel.lane(Lane::VM).call(ClockGet).await.unwrap()
    };
    let talk = async {
        let hello = agent.host_hello().await;
        agent.say_hello(hello.session).await;
        let (first, op) = agent.next_agent_request().await;
        let identity = SetIdentity {
            realtime_ns: Some(7),
            ..SetIdentity::default()
        };
        assert_eq!(op, AgentOp::SetIdentity(identity));
        agent.reply(&first, Ok(Reply::Done)).await;
        let (second, op) = agent.next_request().await;
        assert_eq!(op, Op::ClockGet);
        agent.reply(&second, Ok(Reply::Clock(8))).await;
    };
    let resync = channel.resync_as(host_hello(), ResyncCause::Reboot, || SetIdentity {
        realtime_ns: Some(7),
        ..SetIdentity::default()
    });
    let both = async { tokio::join!(eager, resync, talk) };
    let (clock, resynced, ()) = timeout(LONG, both).await.unwrap();
    resynced.unwrap();
    assert_eq!(clock, 8);
}

#[tokio::test]
async fn networks_are_set_and_counted_by_the_agent_itself() {
    let (channel, mut agent) = connect().await;
    let network = SetNetwork {
        hosts: vec![HostEntry {
            address: [10, 0, 0, 3].into(),
            names: vec!["b.lan".to_owned()],
        }],
        ..SetNetwork::default()
    };
    let device_mac = [0x52, 0x54, 0, 0x70, 0x76, 1];
    let counters = NicCounters {
        rx_packets: 7,
        ..NicCounters::default()
    };
    let expected = network.clone();
    let talk = async {
        let (frame, op) = agent.next_agent_request().await;
        assert_eq!(op, AgentOp::SetNetwork(expected));
        agent.reply(&frame, Ok(Reply::Done)).await;
        let (frame, op) = agent.next_agent_request().await;
        assert_eq!(op, AgentOp::ReadNicCounters(ReadNicCounters { device_mac }));
        agent.reply(&frame, Ok(Reply::NicCounters(counters))).await;
    };
    let calls = async {
        channel.set_network(network).await.unwrap();
        channel.nic_counters(device_mac).await.unwrap()
    };
    let ((), counted) = timeout(LONG, async { tokio::join!(talk, calls) })
        .await
        .unwrap();
    assert_eq!(counted, counters);
}

#[tokio::test]
async fn disks_are_set_by_the_agent_itself() {
    let (channel, mut agent) = connect().await;
    let disks = SetDisks {
        disks: vec![DiskConfig {
            serial: "src".to_owned(),
            size: 1 << 20,
            read_only: false,
            is_replaced: true,
            may_have_partitions: false,
            known_as: None,
            mount: None,
        }],
    };
    let nodes = vec![DiskNode {
        serial: "src".to_owned(),
        name: "vda".to_owned(),
    }];
    let expected = disks.clone();
    let reply = nodes.clone();
    let talk = async {
        let (frame, op) = agent.next_agent_request().await;
        assert_eq!(op, AgentOp::SetDisks(expected));
        agent.reply(&frame, Ok(Reply::Disks(reply))).await;
    };
    let both = async { tokio::join!(talk, channel.set_disks(disks)) };
    let ((), found) = timeout(LONG, both).await.unwrap();
    assert_eq!(found.unwrap(), nodes);
}

#[tokio::test]
async fn a_dropped_handshake_is_undone() {
    let (channel, mut agent) = connect().await;
    let resync = channel.resync(host_hello(), ResyncCause::Silence);
    let first = tokio::select! {
        _ = resync => panic!("the agent has not answered"),
        hello = agent.host_hello() => hello,
    };
    let talk = async {
        let second = agent.host_hello().await;
        assert_ne!(first.session, second.session);
        // The answer to the first comes late.
        agent.say_hello(first.session).await;
        agent.say_hello(second.session).await;
        second.session
    };
    let (hello, session) = tokio::join!(channel.resync(host_hello(), ResyncCause::Silence), talk);
    assert_eq!(hello.unwrap().session, session);
}

#[tokio::test]
async fn messages_before_the_end_arrive() {
    let (channel, mut agent) = connect().await;
    let pending = tokio::spawn({
        let channel = channel.clone();
        async move { channel.lane(Lane::VM).call(ClockGet).await }
    });
    let (frame, _) = agent.next_request().await;
    agent.reply(&frame, Ok(Reply::Clock(3))).await;
    drop(agent);
    assert_eq!(pending.await.unwrap().unwrap(), 3);
    let mut closed = channel.closed();
    let why = timeout(LONG, closed.wait_for(Option::is_some))
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(why.as_deref(), Some(ChannelError::HungUp)));
    drop(why);
    let error = channel.ping().await.unwrap_err();
    assert_eq!(reason(error), "the machine closed the agent's transport");
    assert!(
        channel
            .resync(host_hello(), ResyncCause::Reboot)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn output_before_a_hangup_is_read_to_its_end() {
    let (channel, mut agent) = connect().await;
    let mut call = channel.open(
        Lane::VM,
        &Op::StreamFd {
            fd: 3.into(),
            notices: false,
        },
    );
    let mut output = call.output(provium_protocol::StreamId::Output);
    let (frame, _) = agent.next_request().await;
    let data = Frame::data(
        frame.lane,
        frame.call,
        provium_protocol::StreamId::Output,
        b"bye".to_vec(),
    );
    agent.send(&data).await;
    drop(agent);
    assert!(call.reply().await.is_err());
    assert_eq!(output.next().await.unwrap().unwrap(), b"bye");
    assert!(
        output.next().await.is_err(),
        "the stream did not end properly"
    );
}

#[tokio::test]
async fn every_call_ends_with_the_reason_of_the_shutdown() {
    let (channel, mut agent) = connect().await;
    let mut call = channel.open(Lane::VM, &Op::ClockGet);
    agent.next_request().await;
    channel.shut_down("the VM is dead: kernel panic");
    channel.shut_down("another reason");
    assert_eq!(
        reason(call.reply().await.unwrap_err()),
        "the VM is dead: kernel panic"
    );
    let late = channel.lane(Lane::VM).call(ClockGet).await.unwrap_err();
    assert_eq!(reason(late), "the VM is dead: kernel panic");
}

struct Modules;

impl ModuleProvider for Modules {
    fn modules(&self, name: String) -> ModulesFuture<'_> {
        Box::pin(async move {
            let object = ByteBuf::from(vec![b'm'; 300_000]);
            vec![ModuleFile { name, object }]
        })
    }
}

#[tokio::test]
async fn asks_are_answered() {
    let (host, mut agent) = FakeAgent::pair();
    let establish = Channel::establish(vec![host], host_hello(), BUILD, Arc::new(Modules));
    let (established, _) = tokio::join!(timeout(LONG, establish), agent.greet());
    let _channel = established.unwrap().unwrap();
    for id in [4, 5] {
        let ask = GuestRequest::Module {
            name: format!("fs-{id}"),
        };
        agent
            .send(&Frame::new(
                FrameKind::GuestRequest,
                Lane::AGENT,
                CallId(id),
                codec::encode(&ask),
            ))
            .await;
    }
    for id in [4, 5] {
        let mut message = Vec::new();
        loop {
            let frame = agent.next_frame().await;
            assert_eq!((frame.kind, frame.call), (FrameKind::HostReply, CallId(id)));
            message.extend(frame.payload);
            if !frame.more {
                break;
            }
        }
        let HostReply::Modules(modules) = codec::decode(&message).unwrap();
        assert_eq!(modules[0].name, format!("fs-{id}"));
        assert_eq!(modules[0].object.len(), 300_000);
    }
}
