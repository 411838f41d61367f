//! The channel against the real agent, which runs here as a plain process on a socket: what both
//! ends of the wire make of each other, without a guest around it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use provium_guest::{Channel, NoModules};
use provium_image::{AGENT, AGENT_BUILD};
use provium_process::{Child, Command};
use provium_protocol::message::EntryType;
use provium_protocol::op::{
    Buffer, ClockGet, CloseFd, Exec, Open, ReadLink, RetireWorker, Stat, Stdin, Syscall, WorkerSpec,
};
use provium_protocol::{Hello, Lane, Op, Reply};
use provium_testkit::{host_hello, random_bytes};
use serde_bytes::ByteBuf;
use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);

/// Held while a program is written and started. A child that another test forks meanwhile has the
/// file open for writing until its own exec, and a file that is being written does not run (ETXTBSY).
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The agent, which ends with this, and a folder for what a test writes.
struct Agent {
    folder: tempfile::TempDir,
    _process: Child,
}

impl Agent {
    fn path(&self, name: &str) -> Vec<u8> {
        let path = self.folder.path().join(name);
        path.into_os_string().into_encoded_bytes()
    }
}

async fn start() -> (Agent, Channel, Hello) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("agent");
    let (host, agent) = std::os::unix::net::UnixStream::pair().unwrap();
    let process = {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        std::fs::write(&program, AGENT).unwrap();
        std::fs::set_permissions(&program, Permissions::from_mode(0o700)).unwrap();
        let mut command = Command::new(program);
        command.args(["--serve-fd", "3"]);
        command.inherit(3, OwnedFd::from(agent));
        command.spawn().unwrap()
    };
    let agent = Agent {
        folder,
        _process: process,
    };
    host.set_nonblocking(true).unwrap();
    let stream = UnixStream::from_std(host).unwrap();
    let mut hello = host_hello();
    hello.build = AGENT_BUILD.to_owned();
    let establish = Channel::establish(vec![stream], hello, AGENT_BUILD, Arc::new(NoModules));
    let (channel, hello) = timeout(LONG, establish).await.unwrap().unwrap();
    (agent, channel, hello)
}

fn shell(line: &str, stdin: Stdin) -> Exec {
    Exec {
        stdin,
        ..Exec::shell(line)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_files_syscalls_and_workers() {
    let (agent, channel, hello) = start().await;
    assert!(!hello.kernel.is_empty());
    channel.ping().await.unwrap();
    let lane = channel.lane(Lane::VM);

    let exec = Exec {
        background: true,
        ..shell("echo hi; echo no >&2; exit 3", Stdin::Null)
    };
    let command = lane.command(exec, 1000);
    assert!(command.started().await.unwrap() > 1);
    assert_eq!(command.wait().await.unwrap().code, Some(3));
    assert_eq!(command.output().contents().bytes, b"hi\n");
    assert_eq!(command.error().contents().bytes, b"no\n");

    let input = random_bytes(1, 3 << 20);
    let cat = lane.command(
        shell("cat", Stdin::Bytes(ByteBuf::from(input.clone()))),
        8 << 20,
    );
    assert_eq!(
        timeout(LONG, cat.wait()).await.unwrap().unwrap().code,
        Some(0)
    );
    assert!(cat.output().contents().bytes == input);

    // It ends before its child, which is still there to be killed.
    let background = lane.command(shell("sleep 300 & echo $!", Stdin::Null), 1000);
    assert_eq!(
        timeout(LONG, background.wait())
            .await
            .unwrap()
            .unwrap()
            .code,
        Some(0)
    );
    let kill = String::from_utf8(background.output().contents().bytes).unwrap();
    let kill = lane.command(shell(&format!("kill {kill}"), Stdin::Null), 1000);
    assert_eq!(kill.wait().await.unwrap().code, Some(0));

    let path = agent.path("file");
    assert_eq!(
        lane.write_file(&path, &input, Some(0o600), false)
            .await
            .unwrap(),
        input.len() as u64
    );
    let stat = lane
        .call(Stat {
            path: path.to_vec(),
        })
        .await
        .unwrap();
    assert_eq!(
        (stat.size, stat.perm, stat.entry_type),
        (input.len() as u64, 0o600, EntryType::File)
    );
    assert!(lane.read_file(&path).await.unwrap() == input);
    assert_eq!(
        lane.read_file(&agent.path("nope"))
            .await
            .unwrap_err()
            .errno(),
        Some(2)
    );

    let raw = channel.lane(Lane::VM);
    let open = Open {
        path: path.to_vec(),
        flags: 0,
        perm: 0,
    };
    let fd = raw.call(open).await.unwrap();
    assert_eq!(raw.read_fd(fd, 100).await.unwrap(), input[..100]);
    assert!(raw.read_fd_to_end(fd).await.unwrap() == input[100..]);
    raw.call(CloseFd { fd }).await.unwrap();

    let uname = Syscall {
        nr: 63,
        args: [0; 6],
        buffers: vec![Buffer {
            content: Vec::new(),
            len: 390,
            align: 16,
            returned: true,
        }],
        pointers: vec![0],
        nested: Vec::new(),
        background: false,
    };
    let result = raw.syscall(uname).await.unwrap();
    assert_eq!((result.ret, result.errno), (0, 0));
    assert!(result.buffers[0].as_ref().unwrap().starts_with(b"Linux\0"));

    let worker = channel.spawn_worker(WorkerSpec::default()).await.unwrap();
    let own = channel.lane(worker.lane);
    let read_link = |path: &[u8]| {
        own.call(ReadLink {
            path: path.to_vec(),
        })
    };
    let link = read_link(b"/proc/self/exe").await.unwrap();
    let path = format!("/proc/{}/exe", worker.pid);
    assert_eq!(link, read_link(path.as_bytes()).await.unwrap());
    let retire = RetireWorker { lane: worker.lane };
    channel.lane(Lane::VM).call(retire).await.unwrap();
    let gone = own
        .call(Stat {
            path: b"/".to_vec(),
        })
        .await
        .unwrap_err();
    assert_eq!(
        gone.kind(),
        Some(provium_protocol::ErrorKind::NoSuchLane),
        "{gone:?}"
    );

    let ops = vec![
        Op::Stat {
            path: b"/".to_vec(),
        },
        Op::Exec(Exec {
            collect: Some(100),
            ..shell("echo b", Stdin::Null)
        }),
    ];
    let results = channel.lane(Lane::VM).batch(ops).await.unwrap();
    assert!(
        matches!(&results[1], Ok(Reply::Ran { stdout, .. }) if **stdout == *b"b\n"),
        "{results:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_mixed_calls_with_random_cancels_stay_in_step() {
    let (agent, channel, _) = start().await;
    let agent = Arc::new(agent);
    let big = Arc::new(random_bytes(1, 700_000));
    let lane = channel.lane(Lane::VM);
    lane.write_file(&agent.path("big"), &big, None, false)
        .await
        .unwrap();
    let mut tasks = Vec::new();
    for seed in 0..16 {
        let (channel, big, agent) = (channel.clone(), Arc::clone(&big), Arc::clone(&agent));
        tasks.push(tokio::spawn(async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            for round in 0..63 {
                let path = agent.path(&format!("{seed}-{round}"));
                let big_path = agent.path("big");
                let work = one_call(&channel, rng.u64(..), &path, &big_path, &big);
                if rng.u32(..3) == 0 {
                    let _ = timeout(Duration::from_micros(rng.u64(..20_000)), work).await;
                } else {
                    timeout(LONG, work).await.unwrap();
                }
            }
        }));
    }
    for task in tasks {
        timeout(2 * LONG, task).await.unwrap().unwrap();
    }
    assert!(lane.read_file(&agent.path("big")).await.unwrap() == *big);
    assert!(channel.closed().borrow().is_none());
}

async fn one_call(channel: &Channel, seed: u64, path: &[u8], big_path: &[u8], big: &[u8]) {
    let lane = channel.lane(Lane::VM);
    match seed % 7 {
        0 => assert!(lane.read_file(big_path).await.unwrap() == big),
        1 => {
            let content = random_bytes(seed, 400_000);
            lane.write_file(path, &content, None, false).await.unwrap();
            assert!(lane.read_file(path).await.unwrap() == content);
        }
        2 => {
            let input = random_bytes(seed, 300_000);
            let command = lane.command(
                shell("cat", Stdin::Bytes(ByteBuf::from(input.clone()))),
                1 << 20,
            );
            assert_eq!(command.wait().await.unwrap().code, Some(0));
            assert!(command.output().contents().bytes == input);
        }
        3 => {
            let command = lane.command(shell("exec sleep 60", Stdin::Null), 100);
            command.started().await.unwrap();
            command.signal(15, true).await.unwrap();
            assert_eq!(command.wait().await.unwrap().signal, Some(15));
        }
        4 => {
            let path = b"/nowhere".to_vec();
            let error = lane.call(Stat { path }).await.unwrap_err();
            assert_eq!(error.errno(), Some(2));
        }
        5 => {
            channel.lane(Lane::VM).call(ClockGet).await.unwrap();
        }
        _ => {
            channel.ping().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_both_ways_beside_small_calls() {
    const SIZE: usize = 64 << 20;
    let (agent, channel, _) = start().await;
    let content = Arc::new(random_bytes(7, SIZE));
    let lane = channel.lane(Lane::VM);
    let (up_path, down_path) = (agent.path("up"), agent.path("down"));
    lane.write_file(&down_path, &content, None, false)
        .await
        .unwrap();
    let (up_lane, down_lane, sent) = (lane.clone(), lane.clone(), Arc::clone(&content));
    let started = Instant::now();
    let up = tokio::spawn(async move { up_lane.write_file(&up_path, &sent, None, false).await });
    let down = tokio::spawn(async move { down_lane.read_file(&down_path).await });
    let (mut worst, mut calls) = (Duration::ZERO, 0);
    while !up.is_finished() || !down.is_finished() {
        let started = Instant::now();
        channel.lane(Lane::VM).call(ClockGet).await.unwrap();
        worst = worst.max(started.elapsed());
        calls += 1;
    }
    assert_eq!(up.await.unwrap().unwrap(), SIZE as u64);
    assert!(down.await.unwrap().unwrap() == *content);
    eprintln!(
        "{calls} small calls in {:?}, the longest {worst:?}",
        started.elapsed()
    );
    assert!(
        worst < Duration::from_secs(1),
        "a small call took {worst:?}"
    );
}
