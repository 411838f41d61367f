//! What holds when the guest does not carry out what it is asked, or does not answer at all.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use provium_guest::{CallError, Channel, NoModules};
use provium_protocol::op::{Exec, RetireWorker, Stdin, Syscall};
use provium_protocol::{ErrorKind, Lane, Op};
use provium_testkit::{
    BUILD, FakeAgent, GuestCall, ModelGuest, ReplyFuture, ServingAgent, host_hello,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);
const OWNER: Lane = Lane::FIRST_WORKER;

async fn connect() -> (Channel, ModelGuest, ServingAgent) {
    let (host, agent) = FakeAgent::pair();
    let guest = ModelGuest::new();
    let serving = ServingAgent::start(agent, Arc::new(guest.clone()));
    let establish = Channel::establish(vec![host], host_hello(), BUILD, Arc::new(NoModules));
    let (channel, _) = timeout(LONG, establish).await.unwrap().unwrap();
    (channel, guest, serving)
}

fn shell(line: &str, stdin: Stdin, background: bool) -> Exec {
    Exec {
        stdin,
        background,
        ..Exec::shell(line)
    }
}

#[tokio::test]
async fn ending_the_input_wakes_who_waits_to_write_more() {
    let (channel, _guest, _serving) = connect().await;
    // It reads nothing, so the window fills.
    let command = channel
        .lane(OWNER)
        .command(shell("wait", Stdin::Channel, true), 100);
    command.started().await.unwrap();
    let (first, second) = (command.input(), command.input());
    let content = vec![0; 4 << 20];
    let writes = async { tokio::join!(first.write_all(&content), second.write_all(b"later")) };
    tokio::pin!(writes);
    assert!(
        timeout(Duration::from_millis(100), &mut writes)
            .await
            .is_err()
    );
    command.input().finish();
    let (first, second) = timeout(LONG, writes).await.unwrap();
    assert!(matches!(first, Err(CallError::InputClosed)), "{first:?}");
    assert!(matches!(second, Err(CallError::InputClosed)), "{second:?}");
}

#[tokio::test]
async fn commands_in_flight_are_counted_for_their_lane() {
    let (channel, _guest, _serving) = connect().await;
    let lane = channel.lane(OWNER);
    assert!(!lane.may_have_background_commands());
    let run = lane.command(shell("wait", Stdin::Null, false), 100);
    run.started().await.unwrap();
    assert!(!lane.may_have_background_commands());
    let background = lane.command(shell("wait", Stdin::Null, true), 100);
    background.started().await.unwrap();
    let other = channel.lane(Lane(OWNER.0 + 1));
    let other = other.command(shell("wait", Stdin::Null, true), 100);
    other.started().await.unwrap();
    assert!(lane.may_have_background_commands());

    let in_flight = lane.commands_in_flight();
    assert_eq!(in_flight.len(), 2);
    for command in &in_flight {
        command.signal(15).await.unwrap();
        let exit = timeout(LONG, command.wait()).await.unwrap().unwrap();
        assert_eq!(exit.signal, Some(15));
        // Ended is as good as signalled.
        command.signal(15).await.unwrap();
    }
    // Their own handles see the end, too.
    assert_eq!(run.wait().await.unwrap().signal, Some(15));
    assert_eq!(background.wait().await.unwrap().signal, Some(15));
    assert!(lane.commands_in_flight().is_empty());
    assert!(!other.has_ended());
}

#[tokio::test]
async fn a_command_that_is_given_up_is_cancelled_for_all_who_wait() {
    let (channel, guest, _serving) = connect().await;
    let command = channel
        .lane(OWNER)
        .command(shell("wait", Stdin::Null, true), 100);
    command.started().await.unwrap();
    let (ended, ()) = tokio::join!(command.wait(), async { command.abandon() });
    assert_eq!(ended.unwrap_err().kind(), Some(ErrorKind::Cancelled));
    assert_eq!(guest.running(), 0);
    // One whose request has not gone out yet is never made, and its end is reported all the same.
    let command = channel
        .lane(OWNER)
        .command(shell("wait", Stdin::Null, true), 100);
    command.abandon();
    let ended = timeout(LONG, command.wait()).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), Some(ErrorKind::Cancelled));
}

#[tokio::test]
async fn the_raw_call_that_others_wait_behind_can_be_named() {
    let (host, agent) = FakeAgent::pair();
    let guest = |_: GuestCall| Box::pin(std::future::pending()) as ReplyFuture;
    let _serving = ServingAgent::start(agent, Arc::new(guest));
    let establish = Channel::establish(vec![host], host_hello(), BUILD, Arc::new(NoModules));
    let (channel, _) = timeout(LONG, establish).await.unwrap().unwrap();
    let raw = |nr, background| {
        Op::Syscall(Syscall {
            nr,
            args: [0; 6],
            buffers: Vec::new(),
            pointers: Vec::new(),
            nested: Vec::new(),
            background,
        })
    };
    let _asynchronous = channel.open(OWNER, &raw(1, true));
    let _stat = channel.open(OWNER, &Op::ClockGet);
    assert_eq!(channel.blocking_call(OWNER), None);
    let first = channel.open(OWNER, &raw(34, false));
    let _second = channel.open(OWNER, &raw(39, false));
    assert_eq!(channel.blocking_call(OWNER).unwrap().nr, 34);
    assert_eq!(channel.blocking_call(Lane(OWNER.0 + 1)), None);
    let blocking = channel.blocking_calls();
    assert_eq!(blocking.len(), 1);
    assert_eq!((blocking[0].0, blocking[0].1.nr), (OWNER, 34));
    drop(first);
}

#[tokio::test]
async fn a_guest_that_answers_is_distinguished_from_one_that_does_not() {
    let (host, mut agent) = FakeAgent::pair();
    let establish = Channel::establish(vec![host], host_hello(), BUILD, Arc::new(NoModules));
    let establish = tokio::spawn(establish);
    agent.say_hello(0).await;
    let hello = agent.host_hello().await;
    agent.say_hello(hello.session).await;
    let (silent, _) = timeout(LONG, establish).await.unwrap().unwrap().unwrap();
    // From here on the agent is silent.
    assert!(!silent.answers_within(Duration::from_millis(200)).await);

    let (channel, _guest, _serving) = connect().await;
    let command = channel
        .lane(OWNER)
        .command(shell("wait", Stdin::Null, false), 100);
    command.started().await.unwrap();
    assert!(
        channel.answers_within(LONG).await,
        "however long a call takes"
    );
}

#[tokio::test]
async fn what_is_posted_is_carried_out_and_cancelled_by_nobody() {
    let (channel, guest, serving) = connect().await;
    let worker = channel.spawn_worker(Default::default()).await.unwrap();
    assert_eq!(guest.workers(), 1);
    let retire = RetireWorker { lane: worker.lane };
    channel.post(Lane::VM, &retire.clone().into());
    channel.lane(Lane::VM).call(retire).await.unwrap();
    while guest.workers() > 0 || serving.counts().open > 0 {
        channel.ping().await.unwrap();
    }
    assert_eq!(serving.counts().cancelled, 0);
}
