//! What a process reads: bytes that came with the request, or that the host sends.

use crate::executor::call::{Call, Input};
use std::os::fd::OwnedFd;

pub(super) struct InputFeed {
    pub(super) fd: OwnedFd,
    /// Everything is there already; the host sends nothing.
    pub(super) is_complete: bool,
    bytes: Vec<u8>,
    written: usize,
    ended: bool,
    /// The call is cancelled: no more comes than what is there.
    is_last: bool,
}

impl InputFeed {
    /// `bytes`: all there is to read, instead of what the host sends.
    pub(super) fn new(fd: OwnedFd, bytes: Option<Vec<u8>>) -> Self {
        let is_complete = bytes.is_some();
        Self {
            fd,
            is_complete,
            bytes: bytes.unwrap_or_default(),
            written: 0,
            ended: is_complete,
            is_last: false,
        }
    }

    /// What to write next.
    pub(super) fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// Whether everything was written, and no more comes.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.written == self.bytes.len()
    }

    /// Ends the input after what has come.
    pub(super) fn end(&mut self) {
        self.is_last = true;
    }

    /// Adds a last byte; returns false if the input ends with it already.
    pub(super) fn end_with(&mut self, byte: u8) -> bool {
        if self.bytes.last() == Some(&byte) {
            return false;
        }
        self.bytes = vec![byte];
        self.written = 0;
        true
    }

    /// Takes the next bytes that came; true when there are some to write.
    pub(super) fn refill(&mut self, call: &Call) -> bool {
        while self.written == self.bytes.len() && !self.ended {
            match call.try_input() {
                Some(Input::Bytes(bytes)) => (self.bytes, self.written) = (bytes, 0),
                Some(Input::End) => self.ended = true,
                None if self.is_last => self.ended = true,
                None => break,
            }
        }
        self.written < self.bytes.len()
    }
}
