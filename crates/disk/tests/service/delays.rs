//! Commands with a delay, beside others and at the end.

use crate::client::*;
use crate::memory::{Memory, Served};
use provium_disk::{Command, CommandKind, Pace};
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
/// Longer than a test may take.
const HOUR: Duration = Duration::from_secs(3600);

/// A disk whose writes wait for an hour.
fn slow_writes(size: usize) -> Memory {
    Memory::new(size).delayed(|command: &Command| match command.kind {
        CommandKind::Write => HOUR,
        _ => Duration::ZERO,
    })
}

/// Waits until a condition holds that another thread brings about.
fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "it never holds");
        thread::yield_now();
    }
}

#[test]
fn only_commands_with_a_delay_wait() {
    let served = Served::new(slow_writes(MIB));
    let mut client = Client::new(&served);
    client.send(&write(1, 0, &[1; 512]));
    assert_eq!(client.read(0, 512), [0; 512]);
    assert_eq!(client.ask(FLUSH, 0, 0), ok(77));
    assert_eq!(Client::new(&served).read(0, 512), [0; 512]);
    assert_eq!(served.disk.admitted()[0].kind, CommandKind::Write);
    assert_eq!(served.disk.done()[0].kind, CommandKind::Read);
    served.service.set_pace(Pace::Draining);
    assert_eq!(client.reply(), ok(1));
    assert_eq!(client.read(0, 512), [1; 512]);
    // While it drains, new commands do not wait either.
    assert_eq!(client.write(0, &[2; 512]), ok(78));
    served.service.set_pace(Pace::Normal);
    client.send(&write(3, 0, &[3; 512]));
    assert_eq!(client.read(0, 512), [2; 512]);
}

#[test]
fn delays_pass_in_the_order_of_their_end() {
    let delay = |command: &Command| Duration::from_millis(command.offset / 512);
    let served = Served::new(Memory::new(MIB).delayed(delay));
    let mut client = Client::new(&served);
    let start = Instant::now();
    let requests = [(1, 900), (2, 300), (3, 600), (4, 300)];
    let requests = requests.map(|(cookie, sector)| request(TRIM, cookie, sector * 512, 512));
    client.send(&requests.concat());
    assert_eq!([(); 4].map(|()| client.reply().cookie), [2, 4, 3, 1]);
    assert!(start.elapsed() >= Duration::from_millis(900));
}

#[test]
fn delayed_commands_are_dropped_with_the_service() {
    let served = Served::new(slow_writes(MIB));
    let mut client = Client::new(&served);
    client.send(&write(1, 0, &[1; 512]));
    // It waits when a later request has been answered.
    client.read(0, 512);
    drop(served.service);
    assert_eq!(client.until_closed(), b"");
    assert_eq!(served.disk.content(), vec![0; MIB]);
    assert!(!served.socket.exists());
}

#[test]
fn delayed_commands_of_a_killed_client_are_dropped() {
    let served = Served::new(slow_writes(MIB));
    let mut client = Client::new(&served);
    client.send(&write(1, 0, &[1; 512]));
    client.read(0, 512);
    drop(client);
    wait_until(|| served.service.connections() == 0);
    served.service.set_pace(Pace::Draining);
    assert_eq!(Client::new(&served).read(0, 512), [0; 512]);
}

#[test]
fn delayed_commands_of_a_client_that_disconnects_are_carried_out() {
    let served = Served::new(slow_writes(MIB));
    let mut client = Client::new(&served);
    client.send(&[write(1, 0, &[1; 512]), request(DISC, 2, 0, 0)].concat());
    wait_until(|| !served.disk.admitted().is_empty());
    served.service.set_pace(Pace::Draining);
    assert_eq!(client.reply(), ok(1));
    assert_eq!(client.until_closed(), b"");
    assert_eq!(served.disk.content()[..512], [1; 512]);
}

#[test]
fn more_than_a_queue_holds_is_carried_out_in_the_end() {
    const COUNT: u64 = 40;
    let served = Served::new(slow_writes(4 * MIB));
    let mut client = Client::new(&served);
    let mut sender = client.socket.try_clone().expect("a socket");
    // 160 MiB, of which 64 MiB may wait: the sender has to stop.
    let sending = thread::spawn(move || {
        for cookie in 0..COUNT {
            let bytes = write(cookie, 0, &vec![cookie as u8; 4 * MIB]);
            sender.write_all(&bytes).expect("the service reads");
        }
    });
    wait_until(|| served.disk.admitted().len() == 17);
    assert!(served.disk.done().is_empty());
    served.service.set_pace(Pace::Draining);
    let mut replies: Vec<u64> = (0..COUNT).map(|_| client.reply().cookie).collect();
    replies.sort_unstable();
    assert_eq!(replies, (0..COUNT).collect::<Vec<_>>());
    sending.join().expect("no panic");
    assert_eq!(served.disk.done().len() as u64, COUNT);
}

#[test]
fn a_full_queue_does_not_hold_up_the_end() {
    let served = Served::new(slow_writes(4 * MIB));
    let mut client = Client::new(&served);
    let mut sender = client.socket.try_clone().expect("a socket");
    let sending = thread::spawn(move || {
        let bytes = write(1, 0, &vec![1; 4 * MIB]);
        while sender.write_all(&bytes).is_ok() {}
    });
    wait_until(|| served.disk.admitted().len() == 17);
    drop(served.service);
    sending.join().expect("no panic");
    assert_eq!(client.until_closed(), b"");
    assert!(served.disk.done().is_empty());
    assert_eq!(served.disk.admitted().len(), 17, "64 MiB and one command");
}
