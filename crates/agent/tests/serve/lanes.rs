//! The agent driven by frames: lanes.

use crate::host::{Host, shell, syscall};
use provium_protocol::op::{Exec, WorkerSpec};
use provium_protocol::{AgentOp, Descriptor, ErrorKind, Lane, Op, Reply};

fn worker(host: &mut Host, spec: WorkerSpec) -> (Lane, u32) {
    match host.ask(Lane::VM, &Op::SpawnWorker(spec)) {
        Ok(Reply::Worker { lane, pid }) => (lane, pid),
        other => panic!("{other:?}"),
    }
}

fn raw(host: &mut Host, lane: Lane, nr: i64, args: &[i64]) -> i64 {
    match host.ask(lane, &Op::Syscall(syscall(nr, args))) {
        Ok(Reply::Syscall { ret, .. }) => ret,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_begins_as_the_raw_process_is() {
    let mut host = Host::new();
    let open = Op::Open {
        path: b"/etc/passwd".to_vec(),
        flags: libc::O_RDONLY,
        perm: 0,
    };
    let Ok(Reply::Opened(fd)) = host.ask(Lane::VM, &open) else {
        panic!("not opened")
    };
    raw(&mut host, Lane::VM, libc::SYS_umask, &[0o077]);
    let spec = WorkerSpec {
        cwd: Some(b"/usr".to_vec().into()),
        env: vec![(b"MINE".to_vec().into(), b"yes".to_vec().into())],
        ..WorkerSpec::default()
    };
    let (lane, pid) = worker(&mut host, spec);
    assert!(lane >= Lane::FIRST_WORKER);
    assert_eq!(raw(&mut host, lane, libc::SYS_getpid, &[]), i64::from(pid));
    let parent = raw(&mut host, Lane::VM, libc::SYS_getppid, &[]);
    assert_eq!(
        raw(&mut host, lane, libc::SYS_getppid, &[]),
        parent,
        "the executor collects its end"
    );
    assert_eq!(raw(&mut host, lane, libc::SYS_getsid, &[]), i64::from(pid));
    let Ok(Reply::Bytes(bytes)) = host.ask(
        lane,
        &Op::ReadFd {
            fd: Descriptor::from(fd.number),
            max: 4,
        },
    ) else {
        panic!("no")
    };
    assert_eq!(&bytes[..], b"root");
    let said = host.sh(lane, "pwd; umask; echo $MINE").output;
    assert_eq!(String::from_utf8(said).unwrap(), "/usr\n0077\nyes\n");
    raw(&mut host, lane, libc::SYS_close, &[i64::from(fd.number)]);
    assert!(
        host.ask(
            Lane::VM,
            &Op::SeekFd {
                fd,
                offset: 0,
                whence: provium_protocol::op::Whence::Set
            }
        )
        .is_ok()
    );
    assert_eq!(
        raw(&mut host, Lane::VM, libc::SYS_wait4, &[-1]),
        -1,
        "no child of the raw lane"
    );
}

#[test]
fn workers_run_commands_at_once_and_one_that_hangs_can_be_closed() {
    let mut host = Host::new();
    let lanes: Vec<Lane> = (0..8)
        .map(|_| worker(&mut host, WorkerSpec::default()).0)
        .collect();
    let stuck = host.request(lanes[0], &Op::Syscall(syscall(libc::SYS_pause, &[])));
    // Each command waits until all of them run.
    let met = std::env::temp_dir().join(format!("provium-agent-met-{}", std::process::id()));
    std::fs::create_dir(&met).unwrap();
    let meet = |number: usize| {
        let folder = met.display();
        let wait = format!("while [ $(ls {folder} | wc -l) -lt 7 ]; do sleep 0.02; done");
        Op::Exec(shell(&format!("touch {folder}/{number}; {wait}")))
    };
    let calls: Vec<_> = lanes[1..]
        .iter()
        .enumerate()
        .map(|(number, lane)| host.request(*lane, &meet(number)))
        .collect();
    for call in calls {
        let reply = host.finish(call).reply.unwrap();
        assert!(matches!(reply, Ok(Reply::Exited(exit)) if exit.code == Some(0)));
    }
    std::fs::remove_dir_all(&met).unwrap();
    let background = Exec {
        background: true,
        ..shell("sleep 100")
    };
    let running = host.request(lanes[1], &Op::Exec(background));
    let pid = host.started(running);
    for lane in &lanes {
        assert_eq!(
            host.ask(Lane::VM, &Op::RetireWorker { lane: *lane }),
            Ok(Reply::Done)
        );
    }
    assert_eq!(
        host.finish(stuck).reply.unwrap().unwrap_err().kind,
        ErrorKind::NoSuchLane
    );
    host.finish(running);
    let gone = format!("for i in $(seq 100); do kill -0 {pid} || exit 0; sleep 0.05; done; exit 1");
    let heard = host.sh(Lane::VM, &gone);
    assert!(matches!(heard.reply, Some(Ok(Reply::Exited(exit))) if exit.code == Some(0)));
    let error = host.ask(lanes[2], &Op::ClockGet).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSuchLane);
    assert_eq!(
        host.ask(Lane::VM, &Op::RetireWorker { lane: lanes[2] }),
        Ok(Reply::Done)
    );
}

#[test]
fn a_worker_that_died_stays_dead_until_retired() {
    let mut host = Host::new();
    let (lane, _) = worker(&mut host, WorkerSpec::default());
    let error = host
        .ask(lane, &Op::Syscall(syscall(libc::SYS_exit_group, &[7])))
        .unwrap_err();
    assert!(error.message.contains("exited with status 7"), "{error:?}");
    let error = host.ask(lane, &Op::ClockGet).unwrap_err();
    assert_eq!(error.kind, ErrorKind::LaneDied);
    host.ask(Lane::VM, &Op::RetireWorker { lane }).unwrap();
    assert_eq!(
        host.ask(lane, &Op::ClockGet).unwrap_err().kind,
        ErrorKind::NoSuchLane
    );
}

#[test]
fn a_worker_that_cannot_be_set_up_is_reported_with_the_reason() {
    let mut host = Host::new();
    let spec = WorkerSpec {
        cwd: Some(b"/nowhere".to_vec().into()),
        ..WorkerSpec::default()
    };
    let error = host.ask(Lane::VM, &Op::SpawnWorker(spec)).unwrap_err();
    assert_eq!(
        (error.errno, error.message.as_str()),
        (libc::ENOENT, "chdir /nowhere")
    );
    let spec = WorkerSpec {
        namespaces: vec!["odd".into()],
        ..WorkerSpec::default()
    };
    let error = host.ask(Lane::VM, &Op::SpawnWorker(spec)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
}

#[test]
fn a_batch_runs_in_order_and_continues_after_failures() {
    let mut host = Host::new();
    let name = std::env::temp_dir().join(format!("provium-agent-batch-{}", std::process::id()));
    let path = name.into_os_string().into_encoded_bytes();
    let read = Op::ReadFile {
        path: path.clone(),
        inline: true,
    };
    let mut ops = vec![
        Op::WriteFile {
            path: path.clone(),
            perm: None,
            append: false,
            content: Some(b"1".to_vec().into()),
        },
        read.clone(),
        Op::Unlink { path },
        read,
        Op::Exec(Exec {
            collect: Some(100),
            ..shell("echo hi")
        }),
        Op::Syscall(syscall(libc::SYS_exit_group, &[1])),
        Op::Syscall(syscall(libc::SYS_getuid, &[])),
        Op::ClockGet,
    ];
    ops.extend((0..2000).map(|_| Op::Syscall(syscall(libc::SYS_getppid, &[]))));
    let batch = Op::Batch { ops };
    let Ok(Reply::Batch(results)) = host.ask(Lane::VM, &batch) else {
        panic!("no batch")
    };
    assert_eq!(results.len(), 2008);
    assert_eq!(results[1], Ok(Reply::Bytes(b"1".to_vec().into())));
    assert_eq!(results[3].as_ref().unwrap_err().errno, libc::ENOENT);
    assert!(matches!(&results[4], Ok(Reply::Ran { stdout, .. }) if &stdout[..] == b"hi\n"));
    let kinds: Vec<_> = results[5..8]
        .iter()
        .map(|one| one.as_ref().err().map(|e| e.kind))
        .collect();
    assert_eq!(
        kinds,
        [Some(ErrorKind::LaneDied), None, Some(ErrorKind::Invalid)]
    );
    assert!(
        results[8..]
            .iter()
            .all(|one| matches!(one, Ok(Reply::Syscall { errno: 0, .. })))
    );
}

#[test]
fn a_batch_is_cancelled_between_and_within_its_entries() {
    let mut host = Host::new();
    let sleep = Op::Exec(Exec {
        collect: Some(9),
        ..shell("sleep 100")
    });
    let batch = Op::Batch {
        ops: vec![sleep.clone(), sleep],
    };
    let call = host.request(Lane::VM, &batch);
    host.sh(Lane::VM, "true");
    host.cancel(Lane::VM, call);
    assert_eq!(
        host.finish(call).reply.unwrap().unwrap_err().kind,
        ErrorKind::Cancelled
    );
}

#[test]
fn a_stopped_executor_is_replaced_when_a_call_to_it_is_cancelled() {
    let mut host = Host::new();
    let pid = raw(&mut host, Lane::VM, libc::SYS_getpid, &[]);
    // The signal takes its time; a call that comes before it would simply be answered.
    let stop =
        format!("kill -STOP {pid}; until grep -q '^State:.T' /proc/{pid}/status; do :; done");
    host.sh(Lane::VM, &stop);
    let call = host.request(Lane::VM, &Op::Syscall(syscall(libc::SYS_getpid, &[])));
    host.cancel(Lane::VM, call);
    assert_eq!(
        host.finish(call).reply.unwrap().unwrap_err().kind,
        ErrorKind::Cancelled
    );
    assert_ne!(raw(&mut host, Lane::VM, libc::SYS_getpid, &[]), pid);
}

#[test]
fn figures_about_the_guest() {
    let mut host = Host::new();
    let Ok(Reply::Stats(stats)) = host.ask_agent(&AgentOp::Stats) else {
        panic!("no stats")
    };
    assert!(stats.memory_total >= stats.memory_available && stats.processes > 2);
}

#[test]
fn a_worker_serves_from_namespaces_of_its_own() {
    let mut host = Host::new();
    let names = |host: &mut Host, lane| {
        let said = host
            .sh(
                lane,
                "cd /proc/self/ns; readlink mnt net uts ipc cgroup time",
            )
            .output;
        String::from_utf8(said)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let outside = names(&mut host, Lane::VM);
    let namespaces = ["mnt", "net", "uts", "ipc", "cgroup", "time"].map(str::to_owned);
    let spec = WorkerSpec {
        namespaces: namespaces.to_vec(),
        ..WorkerSpec::default()
    };
    match host.ask(Lane::VM, &Op::SpawnWorker(spec)) {
        Ok(Reply::Worker { lane, .. }) => {
            let inside = names(&mut host, lane);
            assert_eq!(inside.len(), 6);
            assert!(
                inside.iter().zip(&outside).all(|(one, other)| one != other),
                "{inside:?}"
            );
        }
        // An ordinary user may not make them on every kernel.
        Err(error) => assert_eq!(error.errno, libc::EPERM, "{error:?}"),
        other => panic!("{other:?}"),
    }
}
