//! The agent driven by frames: syscalls.

use crate::host::{Host, syscall};
use provium_protocol::op::{Buffer, Link, Syscall};
use provium_protocol::{ErrorKind, Event, Lane, Op, Reply};

const LANE: Lane = Lane::VM;

fn buffer(content: &[u8], len: u64) -> Buffer {
    Buffer {
        content: content.to_vec(),
        len,
        align: 16,
        returned: true,
    }
}

fn ret(host: &mut Host, lane: Lane, request: Syscall) -> (i64, i32) {
    match host.ask(lane, &Op::Syscall(request)) {
        Ok(Reply::Syscall { ret, errno, .. }) => (ret, errno),
        other => panic!("{other:?}"),
    }
}

#[test]
fn buffers_go_in_and_come_back() {
    let mut host = Host::new();
    let request = Syscall {
        buffers: vec![buffer(b"", 32)],
        pointers: vec![0],
        ..syscall(libc::SYS_getcwd, &[0, 32])
    };
    let Ok(Reply::Syscall {
        ret,
        errno: 0,
        buffers,
    }) = host.ask(LANE, &Op::Syscall(request))
    else {
        panic!("failed")
    };
    let bytes = buffers[0].as_ref().unwrap();
    assert_eq!(bytes.len(), 32);
    assert_eq!(bytes[usize::try_from(ret).unwrap() - 1], 0);
    assert_eq!(
        self::ret(&mut host, LANE, syscall(libc::SYS_close, &[-1])),
        (-1, libc::EBADF)
    );
}

#[test]
fn pointers_inside_buffers_are_followed() {
    let mut host = Host::new();
    // writev of two vectors into a pipe, then one read.
    let pipe = Syscall {
        buffers: vec![buffer(b"", 8)],
        pointers: vec![0],
        ..syscall(libc::SYS_pipe2, &[0, 0])
    };
    assert_eq!(ret(&mut host, LANE, pipe), (0, 0));
    let mut vectors = vec![0; 32];
    vectors[8] = 3;
    vectors[24] = 2;
    let write = Syscall {
        buffers: vec![buffer(&vectors, 32), buffer(b"one", 3), buffer(b"xtwo", 4)],
        pointers: vec![1],
        nested: vec![
            Link {
                parent: 0,
                child: 1,
                offset: 0,
                child_offset: 0,
            },
            Link {
                parent: 0,
                child: 2,
                offset: 16,
                child_offset: 2,
            },
        ],
        ..syscall(libc::SYS_writev, &[4, 0, 2])
    };
    assert_eq!(ret(&mut host, LANE, write.clone()), (5, 0));
    let some = host.ask(
        LANE,
        &Op::ReadFd {
            fd: 3.into(),
            max: 100,
        },
    );
    assert_eq!(some, Ok(Reply::Bytes(b"onewo".to_vec().into())));
    let mut wrong = write;
    wrong.nested[0].offset = 25;
    assert_eq!(
        host.ask(LANE, &Op::Syscall(wrong)).unwrap_err().kind,
        ErrorKind::Invalid
    );
}

#[test]
fn memory_of_the_process_can_be_looked_at() {
    let mut host = Host::new();
    let flags = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let (address, _) = ret(
        &mut host,
        LANE,
        syscall(libc::SYS_mmap, &[0, 4096, 3, flags, -1, 0]),
    );
    let address = address.cast_unsigned();
    let write = Op::WriteMemory {
        address,
        data: b"here".to_vec().into(),
    };
    assert_eq!(host.ask(LANE, &write), Ok(Reply::Done));
    let read = host.ask(LANE, &Op::ReadMemory { address, len: 4 });
    assert_eq!(read, Ok(Reply::Bytes(b"here".to_vec().into())));
    ret(
        &mut host,
        LANE,
        syscall(libc::SYS_munmap, &[address.cast_signed(), 4096]),
    );
    let error = host
        .ask(LANE, &Op::ReadMemory { address, len: 4 })
        .unwrap_err();
    assert_eq!(error.errno, libc::EFAULT);
}

#[test]
fn a_process_that_a_syscall_ends_is_replaced() {
    let mut host = Host::new();
    let me = |host: &mut Host| ret(host, LANE, syscall(libc::SYS_getpid, &[])).0;
    let mut pids = vec![me(&mut host)];
    let pid = pids[0];
    for request in [
        syscall(libc::SYS_exit_group, &[5]),
        syscall(libc::SYS_exit, &[6]),
    ] {
        let error = host.ask(LANE, &Op::Syscall(request)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::LaneDied, "{error:?}");
        pids.push(me(&mut host));
    }
    let segv = syscall(
        libc::SYS_kill,
        &[*pids.last().unwrap(), i64::from(libc::SIGSEGV)],
    );
    let error = host.ask(LANE, &Op::Syscall(segv)).unwrap_err();
    assert!(error.message.contains("signal 11"), "{error:?}");
    pids.dedup();
    assert_eq!(pids.len(), 3);
    // Strict seccomp: whatever comes next kills the one thread; here that is the way back to the agent. If the reply is
    // read before that, the end may meet the next call.
    let strict = Op::Syscall(syscall(libc::SYS_prctl, &[22, 1]));
    let next = Op::Syscall(syscall(libc::SYS_getpid, &[]));
    if host.ask(LANE, &strict).is_ok()
        && let Err(error) = host.ask(LANE, &next)
    {
        assert_eq!(error.kind, ErrorKind::LaneDied, "{error:?}");
    }
    assert_ne!(Some(&me(&mut host)), pids.last());
    assert_eq!(pids[0], pid);
    assert_eq!(host.sh(Lane::VM, "echo on").output, b"on\n");
}

#[test]
fn a_blocked_call_is_cancelled_and_the_lane_continues() {
    let mut host = Host::new();
    let before = ret(&mut host, LANE, syscall(libc::SYS_getpid, &[]));
    let stuck = host.request(LANE, &Op::Syscall(syscall(libc::SYS_pause, &[])));
    let queued = host.request(LANE, &Op::Syscall(syscall(libc::SYS_getpid, &[])));
    host.cancel(LANE, queued);
    assert_eq!(
        host.finish(queued).reply.unwrap().unwrap_err().kind,
        ErrorKind::Cancelled
    );
    host.cancel(LANE, stuck);
    assert_eq!(
        host.finish(stuck).reply.unwrap().unwrap_err().kind,
        ErrorKind::Cancelled
    );
    assert_eq!(
        ret(&mut host, LANE, syscall(libc::SYS_getpid, &[])),
        before,
        "the same process"
    );
}

#[test]
fn background_calls_wait_while_others_continue() {
    let mut host = Host::new();
    let background = Syscall {
        background: true,
        ..syscall(libc::SYS_pause, &[])
    };
    let calls: Vec<_> = (0..5)
        .map(|_| host.request(LANE, &Op::Syscall(background.clone())))
        .collect();
    for call in &calls {
        while host.calls[call].events.is_empty() {
            host.hear();
        }
        assert!(matches!(host.calls[call].events[0], Event::Entered { tid } if tid > 0));
    }
    assert_eq!(ret(&mut host, LANE, syscall(libc::SYS_getuid, &[])).1, 0);
    for call in calls {
        host.cancel(LANE, call);
        assert_eq!(
            host.finish(call).reply.unwrap().unwrap_err().kind,
            ErrorKind::Cancelled
        );
    }
}

#[test]
fn a_raw_child_sleeps_and_dies_by_signal() {
    let mut host = Host::new();
    for request in [
        syscall(libc::SYS_fork, &[]),
        syscall(libc::SYS_vfork, &[]),
        syscall(libc::SYS_clone, &[i64::from(libc::SIGCHLD)]),
    ] {
        let (child, errno) = ret(&mut host, LANE, request);
        assert!(child > 0, "errno {errno}");
        let kill = syscall(libc::SYS_kill, &[child, i64::from(libc::SIGTERM)]);
        assert_eq!(ret(&mut host, LANE, kill), (0, 0));
        let wait = syscall(libc::SYS_wait4, &[child]);
        assert_eq!(ret(&mut host, LANE, wait), (child, 0));
    }
    let none = syscall(libc::SYS_wait4, &[-1]);
    assert_eq!(ret(&mut host, LANE, none), (-1, libc::ECHILD));
}

#[test]
fn a_descriptor_is_known_by_its_process() {
    let mut host = Host::new();
    let open = Op::Open {
        path: b"/etc/passwd".to_vec(),
        flags: libc::O_RDONLY,
        perm: 0,
    };
    let opened = |host: &mut Host| match host.ask(LANE, &open) {
        Ok(Reply::Opened(fd)) => fd,
        other => panic!("{other:?}"),
    };
    let old = opened(&mut host);
    let exit = Op::Syscall(syscall(libc::SYS_exit_group, &[1]));
    host.ask(LANE, &exit).unwrap_err();
    let new = opened(&mut host);
    assert_eq!(old.number, new.number);
    for op in [Op::ReadFd { fd: old, max: 1 }, Op::CheckFd { fd: old }] {
        let error = host.ask(LANE, &op).unwrap_err();
        assert_eq!(error.kind, ErrorKind::StaleDescriptor);
    }
    assert_eq!(host.ask(LANE, &Op::CloseFd { fd: old }), Ok(Reply::Done));
    let read = host.ask(LANE, &Op::ReadFd { fd: new, max: 4 });
    assert_eq!(read, Ok(Reply::Bytes(b"root".to_vec().into())));
}

#[test]
fn files_and_commands_share_the_state_of_raw_calls() {
    let mut host = Host::new();
    let folder = Syscall {
        buffers: vec![buffer(b"/usr\0", 5)],
        pointers: vec![0],
        ..syscall(libc::SYS_chdir, &[])
    };
    assert_eq!(ret(&mut host, LANE, folder), (0, 0));
    assert_eq!(host.sh(LANE, "pwd").output, b"/usr\n");
    let stat = |path: &[u8]| Op::Stat {
        path: path.to_vec(),
    };
    assert_eq!(host.ask(LANE, &stat(b".")), host.ask(LANE, &stat(b"/usr")));
    let pid = ret(&mut host, LANE, syscall(libc::SYS_getpid, &[])).0;
    let Ok(Reply::Stat(own)) = host.ask(LANE, &stat(b"/proc/self/status")) else {
        panic!("no status")
    };
    let Ok(Reply::Stat(by_number)) =
        host.ask(LANE, &stat(format!("/proc/{pid}/status").as_bytes()))
    else {
        panic!("no status")
    };
    assert_eq!(own.ino, by_number.ino);
    let tasks = Op::ListDir {
        path: format!("/proc/{pid}/task").into_bytes(),
    };
    assert!(matches!(host.ask(LANE, &tasks), Ok(Reply::Entries(tasks)) if tasks.len() == 1));
    // While it is busy, processes join it from outside.
    let stuck = host.request(LANE, &Op::Syscall(syscall(libc::SYS_pause, &[])));
    let said = host.sh(LANE, "pwd");
    assert_eq!(said.output, b"/usr\n", "{:?}", said.reply);
    assert_eq!(host.ask(LANE, &stat(b".")), host.ask(LANE, &stat(b"/usr")));
    host.cancel(LANE, stuck);
    host.finish(stuck);
}
