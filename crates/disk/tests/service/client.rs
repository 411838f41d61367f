//! A small client of the NBD protocol, with simple replies. It trusts the server, and sends what it is asked to.

use crate::memory::Served;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub(crate) const READ: u16 = 0;
pub(crate) const WRITE: u16 = 1;
pub(crate) const DISC: u16 = 2;
pub(crate) const FLUSH: u16 = 3;
pub(crate) const TRIM: u16 = 4;
pub(crate) const WRITE_ZEROES: u16 = 6;

/// No reply takes this long; a test that waits for it fails.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    pub(crate) socket: UnixStream,
    /// Size of the disk, and the transmission flags.
    pub(crate) size: u64,
    pub(crate) flags: u16,
}

/// A reply, without the data that follows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) cookie: u64,
    pub(crate) error: u32,
}

/// A reply of success.
pub(crate) fn ok(cookie: u64) -> Reply {
    Reply { cookie, error: 0 }
}

pub(crate) fn request(command: u16, cookie: u64, offset: u64, length: usize) -> Vec<u8> {
    [
        &b"\x25\x60\x95\x13\0\0"[..],
        &command.to_be_bytes(),
        &cookie.to_be_bytes(),
        &offset.to_be_bytes(),
        &(length as u32).to_be_bytes(),
    ]
    .concat()
}

pub(crate) fn write(cookie: u64, offset: u64, data: &[u8]) -> Vec<u8> {
    [&request(WRITE, cookie, offset, data.len()), data].concat()
}

impl Client {
    /// A client after the handshake.
    pub(crate) fn new(served: &Served) -> Self {
        let mut client = Self::raw(served);
        client.send(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\x04disk");
        client.size = number(&client.receive(8));
        client.flags = number(&client.receive(2)) as u16;
        client
    }

    /// A client that has been greeted.
    pub(crate) fn raw(served: &Served) -> Self {
        let socket = UnixStream::connect(&served.socket).expect("the service accepts");
        socket.set_read_timeout(Some(DEADLINE)).expect("a time");
        let mut client = Self {
            socket,
            size: 0,
            flags: 0,
        };
        assert_eq!(client.receive(18), b"NBDMAGICIHAVEOPT\0\x03");
        client
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the service reads");
    }

    pub(crate) fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.socket.read_exact(&mut bytes).expect("a reply");
        bytes
    }

    pub(crate) fn reply(&mut self) -> Reply {
        let bytes = self.receive(16);
        assert_eq!(bytes[..4], *b"\x67\x44\x66\x98");
        Reply {
            cookie: number(&bytes[8..]),
            error: number(&bytes[4..8]) as u32,
        }
    }

    /// Sends a request that brings no data, and waits for its reply.
    pub(crate) fn ask(&mut self, command: u16, offset: u64, length: usize) -> Reply {
        self.send(&request(command, 77, offset, length));
        self.reply()
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Reply {
        self.send(&write(78, offset, data));
        self.reply()
    }

    pub(crate) fn read(&mut self, offset: u64, length: usize) -> Vec<u8> {
        assert_eq!(self.ask(READ, offset, length), ok(77));
        self.receive(length)
    }

    /// Waits until the server has closed the connection, and returns what it had sent before.
    pub(crate) fn until_closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.socket.read_to_end(&mut rest) {
            Ok(_) => {}
            // The server had not read all that was sent.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection stays open: {error}"),
        }
        rest
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
