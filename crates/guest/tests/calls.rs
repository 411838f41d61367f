//! Calls against a model guest that keeps the protocol.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use provium_guest::{Channel, NoModules, Piece};
use provium_protocol::op::{ClockGet, CloseFd, Exec, Open, RetireWorker, Stat, Stdin, WorkerSpec};
use provium_protocol::{Lane, Op, Reply};
use provium_testkit::{BUILD, FakeAgent, ModelGuest, ServingAgent, host_hello, random_bytes};
use serde_bytes::ByteBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

const LONG: Duration = Duration::from_secs(60);

async fn connect() -> (Channel, ModelGuest, ServingAgent) {
    let (host, agent) = FakeAgent::pair();
    let guest = ModelGuest::new();
    let serving = ServingAgent::start(agent, Arc::new(guest.clone()));
    let establish = Channel::establish(vec![host], host_hello(), BUILD, Arc::new(NoModules));
    let (channel, _) = timeout(LONG, establish).await.unwrap().unwrap();
    (channel, guest, serving)
}

fn shell(line: &str, stdin: Stdin) -> Exec {
    Exec {
        stdin,
        ..Exec::shell(line)
    }
}

/// Waits, by round trips, until `done` says so.
async fn until(channel: &Channel, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < deadline, "it does not come to pass");
        channel.ping().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_mixed_calls_with_random_cancels_stay_in_step() {
    let (channel, guest, serving) = connect().await;
    guest.put("/big", random_bytes(1, 700_000));
    let big = Arc::new(guest.file("/big").unwrap());
    let mut tasks = Vec::new();
    for seed in 0..16 {
        let (channel, big) = (channel.clone(), Arc::clone(&big));
        tasks.push(tokio::spawn(async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            for round in 0..63 {
                let work = one_call(
                    channel.clone(),
                    rng.u64(..),
                    format!("/{seed}/{round}"),
                    &big,
                );
                // A third of the calls is dropped after some polls, which is some progress.
                let polls = if rng.u32(..3) == 0 {
                    rng.u64(..6)
                } else {
                    u64::MAX
                };
                drop_after(polls, work).await;
            }
        }));
    }
    for task in tasks {
        timeout(LONG, task).await.unwrap().unwrap();
    }
    // Whatever was cancelled has been answered, what was given has been taken back, and the channel
    // still works.
    until(&channel, || {
        serving.counts().open == 0 && guest.descriptors() == 0 && guest.workers() == 0
    })
    .await;
    let counts = serving.counts();
    assert_eq!(counts.faults, Vec::<String>::new());
    assert!(counts.cancelled > 0, "some were cancelled");
    assert!(counts.requests > 700, "{counts:?}");
    assert_eq!(
        channel.lane(Lane::VM).read_file(b"/big").await.unwrap(),
        *big
    );
}

async fn one_call(channel: Channel, seed: u64, path: String, big: &[u8]) {
    let lane = channel.lane(Lane::VM);
    match seed % 8 {
        0 => assert_eq!(lane.read_file(b"/big").await.unwrap(), big),
        1 => {
            let content = random_bytes(seed, 400_000);
            let written = lane
                .write_file(path.as_bytes(), &content, None, false)
                .await
                .unwrap();
            assert_eq!(written, content.len() as u64);
            assert_eq!(lane.read_file(path.as_bytes()).await.unwrap(), content);
        }
        2 => {
            let input = random_bytes(seed, 300_000);
            let command = lane.command(
                shell("cat", Stdin::Bytes(ByteBuf::from(input.clone()))),
                1 << 20,
            );
            assert_eq!(command.wait().await.unwrap().code, Some(0));
            assert_eq!(command.output().contents().bytes, input);
        }
        3 => {
            let command = lane.command(shell("wait", Stdin::Null), 100);
            command.started().await.unwrap();
            command.signal(15, true).await.unwrap();
            assert_eq!(command.wait().await.unwrap().signal, Some(15));
        }
        4 => {
            let raw = channel.lane(Lane::VM);
            let open = Open {
                path: path.into_bytes(),
                flags: 0,
                perm: 0,
            };
            let fd = raw.call(open).await.unwrap();
            // Not dropped half-way: a descriptor that was handed over is the caller's to close.
            let close = tokio::spawn(async move { raw.call(CloseFd { fd }).await });
            close.await.unwrap().unwrap();
        }
        5 => {
            let worker = channel.spawn_worker(WorkerSpec::default()).await.unwrap();
            let retire = RetireWorker { lane: worker.lane };
            let retire = tokio::spawn(async move { channel.lane(Lane::VM).call(retire).await });
            retire.await.unwrap().unwrap();
        }
        6 => {
            let path = b"/nowhere".to_vec();
            let error = lane.call(Stat { path }).await.unwrap_err();
            assert_eq!(error.errno(), Some(2));
        }
        _ => {
            channel.ping().await.unwrap();
        }
    }
}

/// Polls a future so many times at most.
async fn drop_after(mut polls: u64, future: impl Future<Output = ()>) {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        if polls == 0 {
            return std::task::Poll::Ready(());
        }
        polls -= 1;
        future.as_mut().poll(context)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_both_ways_is_byte_exact_beside_small_calls() {
    const SIZE: usize = 64 << 20;
    let (channel, guest, serving) = connect().await;
    let content = Arc::new(random_bytes(7, SIZE));
    guest.put("/down", content.to_vec());
    let (up, down) = (channel.lane(Lane::VM), channel.lane(Lane::VM));
    let sent = Arc::clone(&content);
    let up = tokio::spawn(async move { up.write_file(b"/up", &sent, None, false).await });
    let down = tokio::spawn(async move { down.read_file(b"/down").await });
    let mut worst = Duration::ZERO;
    let mut calls = 0;
    while !up.is_finished() || !down.is_finished() {
        let started = Instant::now();
        channel.lane(Lane::VM).call(ClockGet).await.unwrap();
        worst = worst.max(started.elapsed());
        calls += 1;
    }
    assert_eq!(up.await.unwrap().unwrap(), SIZE as u64);
    assert!(
        down.await.unwrap().unwrap() == *content,
        "what came down differs"
    );
    assert!(
        guest.file("/up").unwrap() == *content,
        "what went up differs"
    );
    assert_eq!(serving.counts().faults, Vec::<String>::new());
    assert!(calls > 50, "only {calls} small calls were made");
    assert!(
        worst < Duration::from_secs(1),
        "a small call took {worst:?}"
    );
}

#[tokio::test]
async fn an_output_that_nobody_reads_blocks_its_own_call_only() {
    let (channel, guest, serving) = connect().await;
    guest.put("/big", vec![9; 3 << 20]);
    let mut unread = channel.lane(Lane::VM).read_file_stream(b"/big");
    assert!(!unread.next().await.unwrap().unwrap().is_empty());
    for _ in 0..100 {
        channel.lane(Lane::VM).call(ClockGet).await.unwrap();
    }
    assert_eq!(serving.counts().open, 1, "it waits for its reader");
    let mut rest = 0;
    while let Some(bytes) = unread.next().await.unwrap() {
        rest += bytes.len();
    }
    assert_eq!(unread.received(), 3 << 20);
    assert!(rest > 0);
    assert_eq!(unread.next().await.unwrap(), None, "the end stays the end");
}

#[tokio::test]
async fn a_reply_arrives_also_if_the_output_is_not_read() {
    let (channel, guest, _serving) = connect().await;
    guest.put("/big", vec![9; 3 << 20]);
    let op = Op::ReadFile {
        path: b"/big".to_vec(),
        inline: false,
    };
    let reply = channel.open(Lane::VM, &op).reply().await.unwrap();
    assert_eq!(reply, Reply::Count(3 << 20));
    let mut call = channel.open(Lane::VM, &op);
    drop(call.output(provium_protocol::StreamId::Output));
    assert_eq!(call.reply().await.unwrap(), Reply::Count(3 << 20));
    assert!(call.reply().await.is_err(), "a reply is handed out once");
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_and_its_id_stays_taken_until_the_answer() {
    let (channel, guest, serving) = connect().await;
    let command = channel
        .lane(Lane::VM)
        .command(shell("wait", Stdin::Null), 100);
    command.started().await.unwrap();
    assert_eq!(guest.running(), 1);
    drop(command);
    until(&channel, || serving.counts().open == 0).await;
    assert_eq!((guest.running(), serving.counts().cancelled), (0, 1));
}

#[tokio::test]
async fn commands_are_captured_for_any_number_of_readers() {
    let (channel, _guest, _serving) = connect().await;
    let lane = channel.lane(Lane::VM);
    let command = lane.command(shell("cat", Stdin::Channel), 1000);
    let pid = command.started().await.unwrap();
    assert!(pid > 1000);
    command.input().write_all(b"hello").await.unwrap();
    let mut first = command.output_reader();
    assert_eq!(
        first.next().await.unwrap(),
        Some(Piece::Bytes(b"hello".to_vec()))
    );
    command.input().write_all(b" there").await.unwrap();
    command.input().finish();
    assert_eq!(command.wait().await.unwrap().code, Some(0));
    assert_eq!(
        command.wait().await.unwrap().code,
        Some(0),
        "as often as one asks"
    );
    let mut second = command.output_reader();
    assert_eq!(
        second.next().await.unwrap(),
        Some(Piece::Bytes(b"hello there".to_vec()))
    );
    assert_eq!(second.next().await.unwrap(), None);
    assert_eq!(
        first.next().await.unwrap(),
        Some(Piece::Bytes(b" there".to_vec()))
    );
    assert_eq!(first.next().await.unwrap(), None);
    assert!(command.input().write_all(b"more").await.is_err());
    assert_eq!(
        command.signal(15, false).await.unwrap_err().errno(),
        Some(3)
    );
}

#[tokio::test]
async fn a_flood_of_output_is_kept_at_both_ends_without_a_reader() {
    let (channel, _guest, _serving) = connect().await;
    let lane = channel.lane(Lane::VM);
    let command = lane.command(shell("flood 5000000", Stdin::Null), 1000);
    assert_eq!(command.wait().await.unwrap().code, Some(0));
    let kept = command.output().contents();
    assert_eq!(
        (kept.bytes.len(), kept.dropped, kept.gap_at),
        (1000, 4_999_000, 500)
    );
    let pattern =
        |range: std::ops::Range<usize>| -> Vec<u8> { range.map(|at| (at % 251) as u8).collect() };
    assert_eq!(kept.bytes[..500], pattern(0..500));
    assert_eq!(kept.bytes[500..], pattern(4_999_500..5_000_000));
}

#[tokio::test]
async fn a_command_that_cannot_start_says_why() {
    let (channel, _guest, _serving) = connect().await;
    let lane = channel.lane(Lane::VM);
    let command = lane.command(shell("nonsense", Stdin::Null), 100);
    assert_eq!(command.started().await.unwrap_err().errno(), Some(2));
    assert_eq!(command.wait().await.unwrap_err().errno(), Some(2));
    assert_eq!(command.output_reader().next().await.unwrap(), None);
    let refused = lane.write_fd(77, &vec![0; 2 << 20]).await.unwrap_err();
    assert_eq!(refused.errno(), Some(9));
}

#[tokio::test]
async fn the_last_handle_hangs_up() {
    let (channel, _guest, serving) = connect().await;
    let command = channel
        .lane(Lane::VM)
        .command(shell("wait", Stdin::Null), 100);
    drop(channel);
    command.started().await.unwrap();
    drop(command);
    timeout(LONG, serving.ended()).await.unwrap();
}
