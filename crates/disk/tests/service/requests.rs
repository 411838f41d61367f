//! What well-behaved clients get.

use crate::client::*;
use crate::memory::{Memory, Served};
use provium_disk::CommandKind;
use provium_disk::DiskService;
use rustix::io::Errno;
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::thread;

const MIB: usize = 1 << 20;

#[test]
fn every_command_is_carried_out() {
    let served = Served::new(Memory::new(MIB));
    let mut client = Client::new(&served);
    assert_eq!((client.size, client.flags), (MIB as u64, 0x096d));
    assert_eq!(client.write(512, &[7; 4096]), ok(78));
    assert_eq!(client.read(0, 1024), [[0; 512], [7; 512]].concat());
    assert_eq!(client.ask(WRITE_ZEROES, 1024, 512), ok(77));
    assert_eq!(client.ask(TRIM, 2048, 512), ok(77));
    assert_eq!(client.ask(FLUSH, 0, 0), ok(77));
    let mut fua = write(5, 8192, &[9; 512]);
    fua[5] = 1;
    client.send(&fua);
    assert_eq!(client.reply(), ok(5));
    let mut wanted = vec![0; MIB];
    wanted[512..4608].fill(7);
    wanted[1024..1536].fill(0);
    wanted[2048..2560].fill(0);
    wanted[8192..8704].fill(9);
    assert!(served.disk.content() == wanted);
    let admitted = served.disk.admitted();
    assert_eq!(admitted, served.disk.done());
    let seen: Vec<_> = admitted
        .iter()
        .map(|c| (c.kind, c.offset, c.length, c.fua))
        .collect();
    assert_eq!(
        seen,
        [
            (CommandKind::Write, 512, 4096, false),
            (CommandKind::Read, 0, 1024, false),
            (CommandKind::WriteZeroes, 1024, 512, false),
            (CommandKind::Discard, 2048, 512, false),
            (CommandKind::Flush, 0, 0, false),
            (CommandKind::Write, 8192, 512, true),
        ]
    );
    client.send(&request(DISC, 1, 0, 0));
    assert_eq!(client.until_closed(), b"");
    assert_eq!(served.service.connections(), 0);
}

#[test]
fn requests_up_to_the_longest_are_whole() {
    const LONGEST: usize = 32 * MIB;
    let served = Served::new(Memory::new(LONGEST));
    let mut client = Client::new(&served);
    for length in [512, 32 << 10, (32 << 10) + 512, MIB, 5 * MIB, LONGEST, 512] {
        let data = provium_testkit::random_bytes(length as u64, length);
        let offset = (LONGEST - length) as u64;
        assert_eq!(client.write(offset, &data), ok(78));
        assert!(client.read(offset, length) == data, "{length} bytes");
    }
}

#[test]
fn many_requests_at_a_time_are_admitted_in_order() {
    let served = Served::new(Memory::new(MIB));
    let mut client = Client::new(&served);
    let count = 2000;
    let requests: Vec<u8> = (0..count)
        .flat_map(|cookie| write(cookie, cookie * 512, &[cookie as u8; 512]))
        .collect();
    let mut sender = client.socket.try_clone().expect("a socket");
    let sending = thread::spawn(move || sender.write_all(&requests));
    for cookie in 0..count {
        assert_eq!(client.reply(), ok(cookie));
    }
    sending.join().expect("no panic").expect("all is read");
    let offsets: Vec<u64> = served.disk.admitted().iter().map(|c| c.offset).collect();
    assert_eq!(offsets, (0..count).map(|n| n * 512).collect::<Vec<_>>());
    assert_eq!(client.read(512 * 300, 512), [44; 512]);
}

#[test]
fn errors_reach_the_client_without_data() {
    let served = Served::new(Memory::new(MIB));
    let mut client = Client::new(&served);
    for (errno, value) in [(Errno::IO, 5), (Errno::NOSPC, 28), (Errno::ROFS, 1)] {
        served.disk.fail(Some(errno));
        for command in [READ, FLUSH, TRIM, WRITE_ZEROES] {
            let length = if command == FLUSH { 0 } else { 512 };
            assert_eq!(client.ask(command, 0, length).error, value);
        }
        assert_eq!(client.write(0, &[1; 512]).error, value);
    }
    served.disk.fail(None);
    assert_eq!(client.read(0, 512), [0; 512]);
}

#[test]
fn a_read_only_disk_is_not_written() {
    let served = Served::new(Memory::new(MIB).read_only());
    let mut client = Client::new(&served);
    assert_eq!(client.flags, 0x096f);
    assert_eq!(client.write(0, &[1; 512]).error, 1);
    assert_eq!(client.ask(TRIM, 0, 512).error, 1);
    assert_eq!(client.read(0, 512), [0; 512]);
    assert_eq!(served.disk.admitted().len(), 1);
}

#[test]
fn connections_see_each_other_s_writes() {
    let served = Served::new(Memory::new(MIB));
    let mut clients = [Client::new(&served), Client::new(&served)];
    assert_eq!(served.service.connections(), 2);
    for round in 0..10 {
        let (writer, reader) = (round % 2, (round + 1) % 2);
        assert_eq!(clients[writer].write(4096, &[round as u8; 4096]), ok(78));
        assert_eq!(clients[writer].ask(FLUSH, 0, 0), ok(77));
        assert_eq!(clients[reader].read(4096, 4096), [round as u8; 4096]);
    }
}

#[test]
fn a_socket_that_exists_is_not_replaced() {
    let served = Served::new(Memory::new(MIB));
    let again = DiskService::start(Arc::new(Memory::new(MIB)), "disk", &served.socket);
    let error = again.expect_err("it is in use");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(Client::new(&served).read(0, 512), [0; 512]);
}
