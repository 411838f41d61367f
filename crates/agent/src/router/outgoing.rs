//! What waits to be written to the host.

use crate::transport::Transport;

/// While so much waits, no lane is read from: a guest must not fill the agent's memory.
const ENOUGH: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
}

impl Outgoing {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() - self.written < ENOUGH
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
    }

    /// Writes as much as the line takes.
    pub(super) fn flush(&mut self, transport: &Transport) {
        while !self.is_empty() {
            match transport.write(&self.bytes[self.written..]) {
                0 => break,
                put => self.written += put,
            }
        }
        if self.is_empty() {
            self.clear();
        } else if self.written > ENOUGH {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }
}
