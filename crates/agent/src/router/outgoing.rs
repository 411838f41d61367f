//! What waits to be written to the host.

use crate::transport::Transport;

/// While so much waits, no lane is read from: a guest must not fill the agent's memory.
const ENOUGH: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
    /// Up to here it may be written; `None`: all of it.
    sealed: Option<usize>,
}

impl Outgoing {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether nothing waits that may be written.
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.limit()
    }

    /// Holds back what is pushed from now on.
    pub(super) fn seal(&mut self) {
        self.sealed = Some(self.bytes.len());
    }

    pub(super) fn unseal(&mut self) {
        self.sealed = None;
    }

    fn limit(&self) -> usize {
        self.sealed.unwrap_or(self.bytes.len())
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() - self.written < ENOUGH
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
        self.sealed = None;
    }

    /// Writes as much as the line takes.
    pub(super) fn flush(&mut self, transport: &Transport) {
        while !self.is_empty() {
            match transport.write(&self.bytes[self.written..self.limit()]) {
                0 => break,
                put => self.written += put,
            }
        }
        if self.written == self.bytes.len() && self.sealed.is_none() {
            self.clear();
        } else if self.written > ENOUGH {
            self.bytes.drain(..self.written);
            self.sealed = self.sealed.map(|sealed| sealed - self.written);
            self.written = 0;
        }
    }
}
