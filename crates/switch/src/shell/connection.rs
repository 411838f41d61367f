//! The socket of one NIC.

use crate::netdev::{self, FramingError};
use bytes::{Buf, Bytes, BytesMut};
use mio::net::UnixStream;
use std::collections::VecDeque;
use std::io::{self, Read, Write};

/// Bytes that wait for a receiver that does not read. More is dropped.
pub const OUTPUT_LIMIT: usize = 1 << 20;
/// Bytes that are read at once.
const READ: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: UnixStream,
    input: BytesMut,
    output: BytesMut,
    /// The lengths of the frames in `output`, with their prefix, for those that are not sent completely.
    lengths: VecDeque<usize>,
    /// Bytes of the first of them that are sent.
    sent: usize,
}

/// What a socket had to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// There may be more.
    Frames,
    /// All has been read.
    Nothing,
    /// The other end has closed the connection, or sent something that is not a frame.
    End,
}

impl Connection {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            input: BytesMut::new(),
            output: BytesMut::new(),
            lengths: VecDeque::new(),
            sent: 0,
        }
    }

    /// Reads once, and passes on the frames that are complete.
    pub(super) fn read(&mut self, mut each: impl FnMut(Bytes)) -> ReadOutcome {
        let complete = self.input.len();
        self.input.resize(complete + READ, 0);
        let read = loop {
            match self.socket.read(&mut self.input[complete..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.input.truncate(complete + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => ReadOutcome::End,
            Ok(_) => match self.decode(&mut each) {
                Ok(()) => ReadOutcome::Frames,
                Err(FramingError { .. }) => ReadOutcome::End,
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ReadOutcome::Nothing,
            Err(_) => ReadOutcome::End,
        }
    }

    fn decode(&mut self, each: &mut impl FnMut(Bytes)) -> Result<(), FramingError> {
        while let Some(frame) = netdev::decode(&mut self.input)? {
            each(frame);
        }
        Ok(())
    }

    /// Appends a frame to what is sent next; `false` if it does not fit.
    #[must_use]
    pub(super) fn push(&mut self, frame: &[u8]) -> bool {
        if self.output.len() + frame.len() > OUTPUT_LIMIT {
            return false;
        }
        netdev::encode(frame, &mut self.output);
        self.lengths.push_back(netdev::PREFIX + frame.len());
        true
    }

    /// Sends as much as the socket takes.
    ///
    /// # Errors
    /// When the connection is closed.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.note_sent(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn note_sent(&mut self, count: usize) {
        self.output.advance(count);
        self.sent += count;
        while let Some(length) = self.lengths.front()
            && self.sent >= *length
        {
            self.sent -= length;
            self.lengths.pop_front();
        }
    }

    /// The frames that are not sent completely. The first one is missing if a part of it is sent: that
    /// QEMU has the rest to come, and another one, which knows nothing of it, gets none.
    pub(super) fn unsent(&self) -> Vec<Bytes> {
        let mut rest = &self.output[..];
        let mut frames = Vec::new();
        for (at, length) in self.lengths.iter().enumerate() {
            let is_begun = at == 0 && self.sent > 0;
            let (frame, more) = rest.split_at(length - if at == 0 { self.sent } else { 0 });
            if !is_begun {
                frames.push(Bytes::copy_from_slice(&frame[netdev::PREFIX..]));
            }
            rest = more;
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Connection, std::os::unix::net::UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let theirs = std::os::unix::net::UnixStream::from(std::os::fd::OwnedFd::from(theirs));
        theirs.set_nonblocking(false).expect("a socket");
        (Connection::new(ours), theirs)
    }

    #[test]
    fn what_a_receiver_does_not_read_is_bounded_and_known() {
        let (mut connection, theirs) = pair();
        let frame = [7; 1000];
        let mut accepted = 0;
        while connection.push(&frame) {
            accepted += 1;
        }
        assert_eq!(accepted, OUTPUT_LIMIT / 1004);
        connection.flush().expect("open");
        let unsent = connection.unsent();
        assert!(!unsent.is_empty() && unsent.len() < accepted);
        assert!(unsent.iter().all(|unsent| unsent[..] == frame));
        drop(theirs);
        assert!(connection.flush().is_err());
    }

    #[test]
    fn a_malformed_frame_ends_the_connection() {
        let (mut connection, mut theirs) = pair();
        let mut frames = Vec::new();
        assert_eq!(
            connection.read(|frame| frames.push(frame)),
            ReadOutcome::Nothing
        );
        theirs
            .write_all(b"\0\0\0\x03one\xff\xff\xff\xff")
            .expect("open");
        assert_eq!(
            connection.read(|frame| frames.push(frame)),
            ReadOutcome::End
        );
        assert_eq!(frames, ["one"]);
    }

    #[test]
    fn a_closed_socket_is_the_end() {
        let (mut connection, theirs) = pair();
        drop(theirs);
        assert_eq!(connection.read(|_| panic!("no frame")), ReadOutcome::End);
    }
}
