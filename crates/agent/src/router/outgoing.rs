//! The queue of what is written to the host.

use crate::transport::Transport;

/// While so much waits, the executor is not read from: a guest must not fill the memory of the agent.
const MAX_WAITING: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(super) struct ExecutorQueue {
    bytes: Vec<u8>,
    written: usize,
    /// Up to here it may be written; `None`: all.
    held: Option<usize>,
}

impl ExecutorQueue {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether nothing that may be written waits.
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.limit()
    }

    /// Holds back what is pushed from now on.
    pub(super) fn hold(&mut self) {
        self.held = Some(self.bytes.len());
    }

    pub(super) fn release(&mut self) {
        self.held = None;
    }

    fn limit(&self) -> usize {
        self.held.unwrap_or(self.bytes.len())
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() - self.written < MAX_WAITING
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
        self.held = None;
    }

    /// Writes as much as the line takes.
    pub(super) fn flush(&mut self, transport: &Transport) {
        while !self.is_empty() {
            match transport.write(&self.bytes[self.written..self.limit()]) {
                0 => break,
                put => self.written += put,
            }
        }
        if self.written == self.bytes.len() && self.held.is_none() {
            self.clear();
        } else if self.written > MAX_WAITING {
            self.bytes.drain(..self.written);
            self.held = self.held.map(|held| held - self.written);
            self.written = 0;
        }
    }
}
