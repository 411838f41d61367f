//! Agents that break the protocol cost their own channel, with a reason, and nothing else.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use provium_guest::{Channel, ChannelError, NoModules, ResyncCause, Violation};
use provium_protocol::frame::INITIAL_WINDOW;
use provium_protocol::op::{ClockGet, Exec};
use provium_protocol::{
    CallId, Event, Frame, FrameError, FrameKind, GuestRequest, Lane, Op, Reply, StreamId,
    WireError, codec,
};
use provium_testkit::{
    BUILD, FakeAgent, Leaks, ModelGuest, ServingAgent, host_hello, random_bytes,
};
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

/// Makes a call, lets the agent misbehave, and gives what the host found.
async fn misbehave(op: Op, bytes: impl FnOnce(&Frame) -> Vec<u8>) -> Violation {
    let (channel, mut agent) = connect().await;
    let mut call = channel.open(Lane::VM, &op);
    let (frame, _) = agent.next_request().await;
    // The host may stop reading at any byte of it.
    let bytes = bytes(&frame);
    let sending = tokio::spawn(async move {
        let _ = agent.try_send_bytes(&bytes).await;
        agent
    });
    let error = timeout(LONG, call.reply()).await.unwrap().unwrap_err();
    let later = channel.lane(Lane::VM).call(ClockGet).await.unwrap_err();
    assert_eq!(
        later.to_string(),
        error.to_string(),
        "later calls get the same reason"
    );
    assert!(channel.closed().borrow().is_some());
    drop((call, channel));
    timeout(LONG, sending).await.unwrap().unwrap();
    match error.channel() {
        Some(ChannelError::Violation(violation)) => violation.clone(),
        other => panic!("{other:?}"),
    }
}

fn fragments(kind: FrameKind, to: &Frame, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut frame = Frame::new(kind, to.lane, to.call, vec![0x90; 60_000]);
    frame.more = true;
    for _ in 0..count {
        frame.encode(&mut bytes);
    }
    bytes
}

#[tokio::test]
async fn garbage() {
    let garbage = misbehave(Op::ClockGet, |_| random_bytes(3, 1 << 20)).await;
    assert!(matches!(garbage, Violation::Frame(_)), "{garbage:?}");
    let huge = misbehave(Op::ClockGet, |_| vec![0x7f; 64]).await;
    assert_eq!(huge, Violation::Frame(FrameError::TooLong(0x7f7f_7f7f)));
}

#[tokio::test]
async fn wrong_ids_lanes_and_kinds() {
    let unknown = misbehave(Op::ClockGet, |frame| {
        let reply: Result<Reply, WireError> = Ok(Reply::Done);
        let id = CallId(frame.call.0 + 1);
        Frame::new(FrameKind::Reply, frame.lane, id, codec::encode(&reply)).to_bytes()
    });
    assert!(matches!(
        unknown.await,
        Violation::UnknownCall(FrameKind::Reply, _)
    ));
    let twice = misbehave(Op::ClockGet, |frame| {
        Frame::new(FrameKind::Pong, frame.lane, frame.call, Vec::new()).to_bytes()
    });
    assert!(matches!(
        twice.await,
        Violation::UnknownCall(FrameKind::Pong, _)
    ));
    let lane = misbehave(Op::ClockGet, |frame| {
        Frame::end(Lane::FIRST_WORKER, frame.call, StreamId::Output).to_bytes()
    });
    assert!(matches!(lane.await, Violation::WrongLane(_)));
    for kind in [
        FrameKind::Request,
        FrameKind::Cancel,
        FrameKind::Ping,
        FrameKind::HostReply,
        FrameKind::Hello,
    ] {
        let wrong = misbehave(Op::ClockGet, |frame| {
            Frame::new(kind, frame.lane, frame.call, Vec::new()).to_bytes()
        });
        assert_eq!(wrong.await, Violation::WrongKind(kind));
    }
}

#[tokio::test]
async fn data_where_none_may_be() {
    let (channel, mut agent) = connect().await;
    let mut call = channel.open(
        Lane::VM,
        &Op::StreamFd {
            fd: 1.into(),
            notices: false,
        },
    );
    let mut output = call.output(StreamId::Output);
    let (frame, _) = agent.next_request().await;
    let piece = Frame::data(frame.lane, frame.call, StreamId::Output, vec![0; 60_000]).to_bytes();
    agent
        .send_bytes(&piece.repeat(INITIAL_WINDOW as usize / 60_000 + 1))
        .await;
    let error = timeout(LONG, call.reply()).await.unwrap().unwrap_err();
    let expected = format!("{:?}", Violation::OverWindow(frame.call));
    assert!(format!("{:?}", error.channel().unwrap()).contains(&expected));
    let mut got = 0;
    while let Ok(Some(bytes)) = output.next().await {
        got += bytes.len();
    }
    assert!(got <= INITIAL_WINDOW as usize, "{got} bytes were held");
    drop((call, output, channel));

    let input = misbehave(
        Op::StreamFd {
            fd: 1.into(),
            notices: false,
        },
        |frame| Frame::data(frame.lane, frame.call, StreamId::Input, vec![0; 5]).to_bytes(),
    );
    assert!(matches!(input.await, Violation::WrongStream(_)));
    let after = misbehave(
        Op::StreamFd {
            fd: 1.into(),
            notices: false,
        },
        |frame| {
            let mut bytes = Frame::end(frame.lane, frame.call, StreamId::Output).to_bytes();
            Frame::data(frame.lane, frame.call, StreamId::Output, vec![0; 5]).encode(&mut bytes);
            bytes
        },
    );
    assert!(matches!(after.await, Violation::WrongStream(_)));
    let credit = misbehave(
        Op::StreamFd {
            fd: 1.into(),
            notices: false,
        },
        |frame| {
            let mut credit = Frame::credit(frame.lane, frame.call, StreamId::Input, 5);
            credit.payload.pop();
            credit.to_bytes()
        },
    );
    assert!(matches!(
        credit.await,
        Violation::Unreadable(FrameKind::Credit)
    ));
}

#[tokio::test]
async fn messages_without_end() {
    let plain = misbehave(Op::ClockGet, |frame| fragments(FrameKind::Reply, frame, 3));
    assert_eq!(plain.await, Violation::TooLong(FrameKind::Reply));
    let all = Op::ReadMemory {
        address: 0,
        len: u64::MAX,
    };
    let endless = misbehave(all, |frame| fragments(FrameKind::Reply, frame, 2300));
    assert_eq!(endless.await, Violation::TooLong(FrameKind::Reply));
    for kind in [FrameKind::Event, FrameKind::GuestRequest] {
        let cut = misbehave(Op::ClockGet, |frame| fragments(kind, frame, 1));
        assert_eq!(cut.await, Violation::TooLong(kind));
    }
}

#[tokio::test]
async fn replies_that_grow_when_they_are_decoded() {
    // 64 KiB of nils would be as many buffers of 24 bytes; much more, in a longer reply.
    let grown = misbehave(Op::ClockGet, |frame| {
        let mut message = vec![0x81, 0xa2, b'O', b'k', 0x81, 0xa5];
        message.extend(b"Batch");
        message.extend([0xdd, 0, 0, 0xea, 0x60]);
        message.resize(message.len() + 60_000, 0xc0);
        Frame::new(FrameKind::Reply, frame.lane, frame.call, message).to_bytes()
    });
    assert_eq!(grown.await, Violation::TooLong(FrameKind::Reply));
    let nested = misbehave(Op::ClockGet, |frame| {
        // A batch of a batch of a batch …
        let message = b"\x81\xa2Ok\x81\xa5Batch\x91".repeat(4_000);
        Frame::new(FrameKind::Reply, frame.lane, frame.call, message).to_bytes()
    });
    assert_eq!(nested.await, Violation::TooLong(FrameKind::Reply));
    let unreadable = misbehave(Op::ClockGet, |frame| {
        Frame::new(FrameKind::Reply, frame.lane, frame.call, vec![0xc0]).to_bytes()
    });
    assert_eq!(unreadable.await, Violation::Unreadable(FrameKind::Reply));
}

#[tokio::test]
async fn floods() {
    let events = misbehave(Op::ClockGet, |frame| {
        let event = codec::encode(&Event::Entered { tid: 1 });
        Frame::new(FrameKind::Event, frame.lane, frame.call, event)
            .to_bytes()
            .repeat(100)
    });
    assert_eq!(events.await, Violation::Flood(FrameKind::Event));
    let flood = misbehave(Op::ClockGet, |_| {
        let ask = codec::encode(&GuestRequest::Module {
            name: "x".to_owned(),
        });
        // The host answers, but the agent does not read.
        Frame::new(FrameKind::GuestRequest, Lane::AGENT, CallId(1), ask)
            .to_bytes()
            .repeat(100_000)
    });
    assert_eq!(flood.await, Violation::Flood(FrameKind::GuestRequest));
}

#[tokio::test]
async fn a_reply_of_the_wrong_sort_costs_its_call_only() {
    let (channel, mut agent) = connect().await;
    for (reply, fits) in [(Reply::Done, false), (Reply::Clock(5), true)] {
        let lane = channel.lane(Lane::VM);
        let (got, ()) = tokio::join!(lane.call(ClockGet), async {
            let (frame, _) = agent.next_request().await;
            agent.reply(&frame, Ok(reply)).await;
        });
        assert_eq!(got.is_ok(), fits, "{got:?}");
    }
}

#[tokio::test]
async fn words_that_cross_with_the_answer_to_a_cancel_are_passed_over() {
    let (channel, mut agent) = connect().await;
    let call = channel.open(
        Lane::VM,
        &Op::StreamFd {
            fd: 1.into(),
            notices: false,
        },
    );
    let (frame, _) = agent.next_request().await;
    drop(call);
    assert_eq!(agent.next_frame().await.kind, FrameKind::Cancel);
    agent.reply(&frame, Ok(Reply::Done)).await;
    agent
        .send(&Frame::data(
            frame.lane,
            frame.call,
            StreamId::Output,
            vec![0; 5],
        ))
        .await;
    let lane = channel.lane(Lane::VM);
    let (clock, ()) = tokio::join!(lane.call(ClockGet), async {
        let (frame, _) = agent.next_request().await;
        agent.reply(&frame, Ok(Reply::Clock(1))).await;
    });
    clock.unwrap();
    agent.reply(&frame, Ok(Reply::Done)).await;
    let mut closed = channel.closed();
    timeout(LONG, closed.wait_for(Option::is_some))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn credit_without_end_does_not_pile_up_input() {
    let (channel, mut agent) = connect().await;
    let call = channel.open(Lane::VM, &Op::WriteFd { fd: 1.into() });
    let input = call.input();
    let (frame, _) = agent.next_request().await;
    for _ in 0..3 {
        agent
            .send(&Frame::credit(
                frame.lane,
                frame.call,
                StreamId::Input,
                u32::MAX,
            ))
            .await;
    }
    // The agent does not read: the writer must come to a stop.
    let content = vec![0; 64 << 20];
    let writing = timeout(Duration::from_millis(300), input.write_all(&content)).await;
    assert!(writing.is_err(), "64 MiB went nowhere");
}

#[tokio::test]
async fn a_channel_closed_by_a_violation_can_be_mended_by_a_reset() {
    let (channel, mut agent) = connect().await;
    agent.send_bytes(&[0x7f; 64]).await;
    let mut closed = channel.closed();
    timeout(LONG, closed.wait_for(Option::is_some))
        .await
        .unwrap()
        .unwrap();
    let resync = channel.resync(host_hello(), ResyncCause::Reboot);
    let (resynced, _) = tokio::join!(timeout(LONG, resync), agent.greet());
    resynced.unwrap().unwrap();
    assert!(channel.closed().borrow().is_none());
}

#[tokio::test]
async fn a_neighbour_notices_nothing() {
    let (host, neighbour) = FakeAgent::pair();
    let guest = ModelGuest::new();
    let _serving = ServingAgent::start(neighbour, Arc::new(guest));
    let establish = Channel::establish(vec![host], host_hello(), BUILD, Arc::new(NoModules));
    let (good, _) = timeout(LONG, establish).await.unwrap().unwrap();
    let (bad, mut agent) = connect().await;
    let flood =
        tokio::spawn(async move { while agent.try_send_bytes(&[0xee; 65_536]).await.is_ok() {} });
    let exec = Exec::shell("echo hi");
    for _ in 0..100 {
        let command = good.lane(Lane::VM).command(exec.clone(), 100);
        timeout(LONG, command.wait()).await.unwrap().unwrap();
        assert_eq!(command.output().contents().bytes, b"hi\n");
    }
    assert!(bad.ping().await.is_err());
    drop(bad);
    flood.await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Frames that are well formed, about a call that is open, and otherwise anything.
    #[test]
    fn any_frames_end_in_an_answer_or_a_reason(
        frames in prop::collection::vec(
            (1u8..=12, 0u8..2, 0u8..3, prop::collection::vec(any::<u8>(), 0..40)), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (channel, mut agent) = connect().await;
            let mut call = channel.open(Lane::VM, &Op::ClockGet);
            let (request, _) = agent.next_request().await;
            for (kind, more, stream, payload) in frames {
                let mut bytes = Frame::new(FrameKind::Data, request.lane, request.call, payload).to_bytes();
                bytes[4] = kind;
                bytes[5] = more;
                bytes[6] = stream;
                let _ = agent.try_send_bytes(&bytes).await;
            }
            drop(agent);
            let _ = timeout(LONG, call.reply()).await.unwrap();
        });
    }
}

#[test]
fn nothing_is_left_behind() {
    // Other tests run beside this one, so only what this one makes is looked for.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let before = Leaks::before();
        let (channel, mut agent) = connect().await;
        assert!(!before.since().is_empty(), "a channel is seen");
        drop(channel);
        assert_eq!(agent.next_item().await, None, "the host's end is closed");
    });
}
