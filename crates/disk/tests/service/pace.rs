//! Flushes while QEMU stops a machine: those of the guest reach the disk, QEMU's own do not.

use crate::client::*;
use crate::memory::{Memory, Served};
use provium_disk::{CommandKind, Pace};
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const MIB: usize = 1 << 20;

/// The kinds of the commands that the disk has seen.
fn seen(served: &Served) -> Vec<CommandKind> {
    let admitted = served.disk.admitted();
    assert_eq!(admitted, served.disk.done());
    admitted.iter().map(|command| command.kind).collect()
}

#[test]
fn a_flush_before_another_command_is_the_guest_s() {
    let served = Served::new(Memory::new(MIB));
    let mut client = Client::new(&served);
    served.service.set_pace(Pace::Draining);
    assert_eq!(client.ask(FLUSH, 0, 0), ok(77));
    assert_eq!(seen(&served), []);
    assert_eq!(client.write(0, &[1; 512]), ok(78));
    assert_eq!(seen(&served), [CommandKind::Flush, CommandKind::Write]);
    assert_eq!(client.ask(FLUSH, 0, 0), ok(77));
    assert_eq!(client.ask(FLUSH, 0, 0), ok(77));
    assert_eq!(seen(&served)[2..], [CommandKind::Flush]);
}

#[test]
fn flushes_at_and_after_the_pause_are_qemu_s() {
    let served = Served::new(Memory::new(MIB));
    let mut client = Client::new(&served);
    served.service.set_pace(Pace::Draining);
    client.write(0, &[1; 512]);
    assert_eq!(client.ask(FLUSH, 0, 0), ok(77));
    served.service.set_pace(Pace::Paused);
    assert_eq!(client.ask(FLUSH, 0, 0), ok(77));
    assert_eq!(client.read(0, 512), [1; 512]);
    assert_eq!(client.ask(FLUSH, 0, 0), ok(77));
    served.service.set_pace(Pace::Normal);
    assert_eq!(seen(&served), [CommandKind::Write, CommandKind::Read]);
    assert_eq!(client.ask(FLUSH, 0, 0), ok(77));
    assert_eq!(seen(&served)[2..], [CommandKind::Flush]);
}

#[test]
fn a_flush_is_the_guest_s_if_the_machine_was_not_paused() {
    let served = Served::new(Memory::new(MIB));
    let mut client = Client::new(&served);
    served.service.set_pace(Pace::Draining);
    assert_eq!(client.ask(FLUSH, 0, 0), ok(77));
    served.service.set_pace(Pace::Normal);
    assert_eq!(seen(&served), [CommandKind::Flush]);
    // Also if the client was killed after it.
    served.service.set_pace(Pace::Draining);
    assert_eq!(client.ask(FLUSH, 0, 0), ok(77));
    drop(client);
    served.service.set_pace(Pace::Normal);
    assert_eq!(seen(&served), [CommandKind::Flush; 2]);
}

#[test]
fn a_flush_before_the_end_is_qemu_s() {
    let served = Served::new(Memory::new(MIB));
    let mut client = Client::new(&served);
    served.service.set_pace(Pace::Draining);
    client.send(&[request(FLUSH, 1, 0, 0), request(DISC, 2, 0, 0)].concat());
    assert_eq!(client.reply(), ok(1));
    assert_eq!(client.until_closed(), b"");
    served.service.set_pace(Pace::Normal);
    assert_eq!(seen(&served), []);
}

#[test]
fn a_flush_that_fails_is_answered_with_its_error() {
    let served = Served::new(Memory::new(MIB));
    let mut client = Client::new(&served);
    served.service.set_pace(Pace::Draining);
    served.disk.fail(Some(Errno::NOSPC));
    let reply = client.ask(FLUSH, 0, 0);
    assert_eq!((reply.cookie, reply.error), (77, 28), "NBD_ENOSPC");
    served.service.set_pace(Pace::Paused);
    assert_eq!(client.ask(FLUSH, 0, 0), ok(77), "QEMU's own");
}

#[test]
fn flushes_after_the_end_of_the_guest_are_qemu_s() {
    let served = Served::new(Memory::new(MIB));
    let has_ended = Arc::new(AtomicBool::new(false));
    let seen_by_service = Arc::clone(&has_ended);
    served
        .service
        .watch_guest(move || seen_by_service.load(Ordering::SeqCst));
    let mut client = Client::new(&served);
    client.write(0, &[1; 512]);
    assert_eq!(client.ask(FLUSH, 0, 0), ok(77));
    assert_eq!(seen(&served), [CommandKind::Write, CommandKind::Flush]);
    served.service.set_pace(Pace::Draining);
    assert_eq!(client.ask(FLUSH, 0, 0), ok(77));
    has_ended.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(client.ask(FLUSH, 0, 0), ok(77));
    }
    served.service.set_pace(Pace::Normal);
    assert_eq!(client.ask(FLUSH, 0, 0), ok(77));
    assert_eq!(
        seen(&served)[2..],
        [CommandKind::Flush],
        "the one before the end was the guest's"
    );
}
