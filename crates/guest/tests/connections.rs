//! Connections to a server behind a guest that keeps the protocol.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use provium_guest::{CallError, Channel, LaneHandle, NoModules};
use provium_protocol::op::Address;
use provium_protocol::{ErrorKind, Event, Lane, Op, Reply, StreamId, WireError};
use provium_testkit::{BUILD, FakeAgent, Guest, GuestCall, ReplyFuture, ServingAgent, host_hello};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);
const ECONNRESET: i32 = 104;
const ECONNREFUSED: i32 = 111;

/// What listens on each port.
const ECHO: u16 = 7;
const RESETS: u16 = 8;
const ENDS_THEN_FAILS: u16 = 9;

/// Servers.
struct Servers;

impl Guest for Servers {
    fn handle(&self, call: GuestCall) -> ReplyFuture {
        Box::pin(serve(call))
    }
}

async fn serve(mut call: GuestCall) -> Result<Reply, WireError> {
    let failed = |errno| {
        Err(WireError {
            kind: ErrorKind::Os,
            errno,
            message: "read".to_owned(),
        })
    };
    let Op::Connect {
        address: Address::Port(port),
    } = call.op.clone()
    else {
        panic!("the tests connect to ports");
    };
    if ![ECHO, RESETS, ENDS_THEN_FAILS].contains(&port) {
        return failed(ECONNREFUSED);
    }
    call.event(Event::Connected).await;
    match port {
        ECHO => {
            while let Some(bytes) = call.input().await {
                call.output(StreamId::Output, &bytes).await;
            }
            call.end(StreamId::Output).await;
            Ok(Reply::Done)
        }
        RESETS => {
            call.output(StreamId::Output, b"begun").await;
            failed(ECONNRESET)
        }
        _ => {
            call.output(StreamId::Output, b"all").await;
            call.end(StreamId::Output).await;
            call.input().await;
            failed(ECONNRESET)
        }
    }
}

async fn start() -> (LaneHandle, ServingAgent) {
    let (host, agent) = FakeAgent::pair();
    let serving = ServingAgent::start(agent, Arc::new(Servers));
    let establish = Channel::establish(vec![host], host_hello(), BUILD, Arc::new(NoModules));
    let (channel, _) = timeout(LONG, establish).await.unwrap().unwrap();
    (channel.lane(Lane::VM), serving)
}

fn errno<T>(result: Result<T, CallError>) -> Option<i32> {
    result.err().and_then(|error| error.errno())
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let (lane, _serving) = start().await;
    let connection = lane.connect(Address::Port(ECHO)).await.unwrap();
    let mut reader = connection.reader();
    connection.writer().write_all(b"ping").await.unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap(), b"ping");
    assert!(!connection.is_over());
    connection.writer().finish();
    assert_eq!(timeout(LONG, reader.next()).await.unwrap().unwrap(), None);
    timeout(LONG, connection.ended()).await.unwrap();
    assert!(connection.failure().is_none());
    let late = connection.writer().write_all(b"late").await;
    assert!(matches!(late, Err(CallError::InputClosed)));
}

#[tokio::test]
async fn a_refusal_is_the_error_of_the_call() {
    let (lane, _serving) = start().await;
    let refused = lane.connect(Address::Port(1)).await;
    assert_eq!(errno(refused), Some(ECONNREFUSED));
}

#[tokio::test]
async fn a_reset_is_not_an_end() {
    let (lane, _serving) = start().await;
    let connection = lane.connect(Address::Port(RESETS)).await.unwrap();
    let mut reader = connection.reader();
    assert_eq!(reader.next().await.unwrap().unwrap(), b"begun");
    for _ in 0..2 {
        let reset = timeout(LONG, reader.next()).await.unwrap();
        assert_eq!(errno(reset), Some(ECONNRESET));
    }
}

#[tokio::test]
async fn an_end_stays_one_when_the_other_direction_fails_later() {
    let (lane, _serving) = start().await;
    let connection = lane.connect(Address::Port(ENDS_THEN_FAILS)).await.unwrap();
    connection.writer().write_all(b"too late").await.unwrap();
    timeout(LONG, connection.ended()).await.unwrap();
    let mut reader = connection.reader();
    assert_eq!(reader.next().await.unwrap().unwrap(), b"all");
    assert_eq!(reader.next().await.unwrap(), None);
    assert!(connection.failure().is_some());
}

#[tokio::test]
async fn a_closed_connection_reads_as_ended() {
    let (lane, _serving) = start().await;
    let connection = lane.connect(Address::Port(ECHO)).await.unwrap();
    let mut reader = connection.reader();
    timeout(LONG, connection.flushed()).await.unwrap();
    connection.close();
    assert_eq!(timeout(LONG, reader.next()).await.unwrap().unwrap(), None);
}
