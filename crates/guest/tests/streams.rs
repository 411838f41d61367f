//! Streams of files, from a guest that keeps the protocol and from one that does not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use provium_guest::{CallError, Channel, LaneHandle, NoModules};
use provium_protocol::op::{NoticeKind, StreamNotice, TailStart};
use provium_protocol::{ErrorKind, Lane, Op, Reply, StreamId, WireError};
use provium_testkit::{BUILD, FakeAgent, Guest, GuestCall, ReplyFuture, ServingAgent, host_hello};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);
const ENOENT: i32 = 2;

/// Files.
struct Files;

impl Guest for Files {
    fn handle(&self, call: GuestCall) -> ReplyFuture {
        Box::pin(serve(call))
    }
}

fn notice(kind: NoticeKind, at: u64) -> [u8; StreamNotice::SIZE] {
    StreamNotice { kind, at }.encode()
}

async fn serve(call: GuestCall) -> Result<Reply, WireError> {
    let failed = |errno| {
        Err(WireError {
            kind: ErrorKind::Os,
            errno,
            message: "open".to_owned(),
        })
    };
    let Op::TailFile { path, .. } = call.op.clone() else {
        panic!("the tests follow files");
    };
    match path.as_slice() {
        b"missing" => failed(ENOENT),
        b"never open" => Ok(Reply::Done),
        b"unknown notice" => {
            call.output(StreamId::Error, &[99; StreamNotice::SIZE])
                .await;
            std::future::pending().await
        }
        _ => {
            let mut notices = notice(NoticeKind::Opened, 0).to_vec();
            notices.extend(notice(NoticeKind::Truncated, 3));
            // In two pieces, one of which ends within a notice.
            let (start, rest) = notices.split_at(4);
            call.output(StreamId::Error, start).await;
            call.output(StreamId::Error, rest).await;
            call.output(StreamId::Output, b"oldnew").await;
            call.output(StreamId::Error, &notice(NoticeKind::Removed, 6))
                .await;
            call.output(StreamId::Output, b"end").await;
            Ok(Reply::Done)
        }
    }
}

async fn start() -> (LaneHandle, ServingAgent) {
    let (host, agent) = FakeAgent::pair();
    let serving = ServingAgent::start(agent, Arc::new(Files));
    let establish = Channel::establish(vec![host], host_hello(), BUILD, Arc::new(NoModules));
    let (channel, _) = timeout(LONG, establish).await.unwrap().unwrap();
    (channel.lane(Lane::VM), serving)
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_makes_no_stream() {
    let (lane, _serving) = start().await;
    let missing = lane.tail_file(b"missing", TailStart::End).await;
    assert_eq!(missing.unwrap_err().errno(), Some(ENOENT));
    for path in [b"never open".as_slice(), b"unknown notice"] {
        let refused = lane.tail_file(path, TailStart::End).await;
        assert!(matches!(refused, Err(CallError::Unexpected("stream"))));
    }
}

#[tokio::test]
async fn changes_are_known_before_the_bytes_that_follow_them() {
    let (lane, _serving) = start().await;
    let mut stream = lane.tail_file(b"file", TailStart::End).await.unwrap();
    let (mut bytes, mut known) = (Vec::new(), Vec::new());
    while let Some(piece) = stream.next().await.unwrap() {
        bytes.extend(piece);
        let last = stream.changes().list().last;
        known = last.iter().map(|change| (change.kind, change.at)).collect();
        assert_eq!(known[0], (NoticeKind::Truncated, 3));
    }
    assert_eq!(bytes, b"oldnewend");
    assert_eq!(known[1..], [(NoticeKind::Removed, 6)]);
    assert_eq!(stream.changes().list().total, 2);
}
