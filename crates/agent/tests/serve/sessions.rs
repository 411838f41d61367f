//! The agent driven by frames: sessions.

use crate::host::{Host, shell, syscall};
use provium_protocol::{CallId, ErrorKind, Frame, FrameKind, Lane, Op, Reply};

#[test]
fn the_agent_announces_itself_and_answers_with_the_session() {
    let mut host = Host::bare();
    while host.hellos.is_empty() {
        host.hear();
    }
    assert_eq!(host.hellos.pop_front().unwrap().session, 0);
    let hello = host.greet(42);
    assert_eq!((hello.session, hello.is_init), (42, false));
    assert_eq!(hello.protocol, provium_protocol::PROTOCOL_VERSION);
}

#[test]
fn pings_are_answered_beside_other_calls() {
    let mut host = Host::new();
    let call = host.request(Lane::VM, &Op::Syscall(syscall(libc::SYS_pause, &[])));
    for id in 0..3 {
        host.send(&Frame::new(
            FrameKind::Ping,
            Lane::AGENT,
            CallId(1000 + id),
            Vec::new(),
        ));
    }
    while host.pongs < 3 {
        host.hear();
    }
    host.cancel(Lane::VM, call);
    host.finish(call);
}

#[test]
fn a_new_session_ends_what_the_old_one_left() {
    let mut host = Host::new();
    let call = host.request(Lane::VM, &Op::Exec(shell("sleep 100")));
    let pid = host.started(call);
    host.greet(8);
    host.calls.clear();
    let gone = format!("for i in $(seq 100); do kill -0 {pid} || exit 0; sleep 0.05; done; exit 1");
    let heard = host.sh(Lane::VM, &gone);
    assert!(matches!(heard.reply, Some(Ok(Reply::Exited(exit))) if exit.code == Some(0)));
}

#[test]
fn garbage_costs_the_session_and_nothing_else() {
    let mut host = Host::new();
    host.raw(&[0xff; 300]);
    host.raw(b"\0\0\0\x04what");
    let hello = host.greet(9);
    assert_eq!(hello.session, 9);
    assert_eq!(host.sh(Lane::VM, "echo on").output, b"on\n");
    // A request that cannot be read, and one to a lane that does not exist.
    let call = host.request(Lane::VM, &Op::ClockGet);
    host.finish(call);
    assert_eq!(
        host.ask(Lane(77), &Op::ClockGet).unwrap_err().kind,
        ErrorKind::NoSuchLane
    );
}
