//! Clients that break the protocol, or that end in the middle of it: the disk and other clients are unharmed.

use crate::client::*;
use crate::memory::{Memory, Served};
use provium_disk::CommandKind;
use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

const MIB: usize = 1 << 20;

#[test]
fn violations_end_the_connection() {
    let served = Served::new(Memory::new(MIB));
    let mut other = Client::new(&served);
    let too_long = request(WRITE, 1, 0, 0xffff_fe00);
    for bytes in [&b"GET / HTTP/1.1\r\nHost: disk\r\n\r\n"[..], &too_long] {
        let mut client = Client::new(&served);
        client.send(bytes);
        assert_eq!(client.until_closed(), b"");
        assert_eq!(other.write(0, &[1; 512]), ok(78));
    }
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x03GET / HTTP/1.1\r\n"] {
        let mut client = Client::raw(&served);
        client.send(bytes);
        assert_eq!(client.until_closed(), b"");
        assert_eq!(other.read(0, 512), [1; 512]);
    }
    assert_eq!(served.service.connections(), 1);
}

#[test]
fn invalid_requests_are_refused() {
    let served = Served::new(Memory::new(MIB));
    let mut client = Client::new(&served);
    let end = MIB as u64;
    for (command, offset, length, error) in [
        (READ, end, 512, 22),
        (READ, u64::MAX - 511, 512, 22),
        (READ, 0, 0xffff_fe00, 22),
        (READ, 0, 0, 22),
        (READ, 1, 512, 22),
        (TRIM, end - 512, 1024, 22),
        (WRITE_ZEROES, end, 512, 28),
        (FLUSH, 0, 512, 22),
        (7, 0, 512, 22),
        (0x1234, 0, 512, 22),
    ] {
        let reply = client.ask(command, offset, length);
        assert_eq!(reply.error, error, "{command} {offset} {length}");
    }
    assert_eq!(client.write(end, &[1; 1024]).error, 28);
    assert_eq!(client.write(1, &[1; 1024]).error, 22);
    assert_eq!(client.write(0, &[1; 100]).error, 22);
    assert!(served.disk.admitted().is_empty());
    assert_eq!(client.read(0, 512), [0; 512]);
}

#[test]
fn a_request_that_breaks_off_is_dropped() {
    let served = Served::new(Memory::new(MIB));
    let mut other = Client::new(&served);
    let whole = write(1, 0, &[1; 195 * 512]);
    for length in [1, 27, 28, 1000, 60_000, whole.len() - 1] {
        let mut client = Client::new(&served);
        client.send(&whole[..length]);
        client.socket.shutdown(Shutdown::Write).expect("open");
        assert_eq!(client.until_closed(), b"");
        assert_eq!(other.read(0, 512), [0; 512]);
    }
    let admitted = served.disk.admitted();
    assert!(admitted.iter().all(|c| c.kind == CommandKind::Read));
}

#[test]
fn a_client_that_does_not_read_is_left_alone() {
    let served = Served::new(Memory::new(MIB));
    let mut client = Client::new(&served);
    // More than the socket holds: its thread waits until they are read.
    let reads: Vec<u8> = (0..20).flat_map(|n| request(READ, n, 0, MIB)).collect();
    client.send(&reads);
    let mut other = Client::new(&served);
    assert_eq!(other.write(0, &[1; 512]), ok(78));
    drop(client);
    assert_eq!(other.read(0, 512), [1; 512]);
    // And the service ends without waiting for one.
    let mut client = Client::new(&served);
    client.send(&reads);
    assert_eq!(other.read(0, 512), [1; 512]);
    drop(served.service);
    client.until_closed();
}

#[test]
fn killed_clients_leave_the_disk_to_others() {
    let served = Served::new(Memory::new(MIB));
    for round in 0..50 {
        let mut client = Client::new(&served);
        client.send(&write(1, 4096, &[round; 4096]));
        client.send(&request(READ, 2, 0, MIB));
        client.send(&write(3, 8192, &[round; 4096])[..100]);
        drop(client);
    }
    let mut client = Client::new(&served);
    assert_eq!(client.write(0, &[1; 512]), ok(78));
    assert_eq!(client.read(8192, 512), [0; 512]);
}

#[test]
fn connections_are_limited() {
    let served = Served::new(Memory::new(MIB));
    let mut clients: Vec<Client> = (0..64).map(|_| Client::new(&served)).collect();
    let refused = UnixStream::connect(&served.socket).expect("it accepts");
    let mut rest = Vec::new();
    (&refused).read_to_end(&mut rest).expect("closed");
    assert_eq!(rest, b"");
    assert_eq!(clients[63].read(0, 512), [0; 512]);
}

#[test]
fn the_service_knows_why_no_client_is_connected() {
    let served = Served::new(Memory::new(MIB));
    let ended = |client: &mut Client| {
        client.until_closed();
        while served.service.connections() > 0 {
            std::thread::yield_now();
        }
        served.service.lost_connection()
    };
    assert_eq!(served.service.lost_connection(), None, "none has come");
    let mut client = Client::new(&served);
    client.socket.shutdown(Shutdown::Write).expect("open");
    assert_eq!(ended(&mut client).as_deref(), Some("it was closed"));
    let mut client = Client::new(&served);
    assert_eq!(client.read(0, 512), [0; 512]);
    assert_eq!(served.service.lost_connection(), None, "another one is");
    client.send(b"GET / HTTP/1.1\r\nHost: disk\r\n\r\n");
    let why = ended(&mut client).expect("a reason");
    assert!(why.ends_with("not with NBD_REQUEST_MAGIC"), "{why}");
    let mut client = Client::new(&served);
    client.send(&request(DISC, 1, 0, 0));
    assert_eq!(ended(&mut client), None, "it has disconnected");
}
