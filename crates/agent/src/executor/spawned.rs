//! What the owners' threads hand over to the main thread: commands and workers that have started.

use super::call::{Call, lock};
use super::root::Root;
use crate::sys::area::Area;
use crate::sys::{Sys, fd};
use provium_protocol::{Lane, StreamId};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};

/// What a process with pipes does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProcessKind {
    /// A program, with or without a terminal.
    Command { terminal: bool },
    /// An operation that moves bytes.
    Transfer,
    /// A connection to a server, whose streams end by themselves.
    Connection,
}

/// A process whose pipes the main thread feeds and empties.
#[derive(Debug)]
pub(super) struct SpawnedProcess {
    pub(super) call: Arc<Call>,
    pub(super) lane: Lane,
    pub(super) pid: i32,
    pub(super) slot: usize,
    pub(super) kind: ProcessKind,
    pub(super) outputs: Vec<(StreamId, OwnedFd)>,
    pub(super) input: Option<OwnedFd>,
    /// Bytes for the input, instead of those that the host sends.
    pub(super) input_bytes: Option<Vec<u8>>,
    /// Ends when the program has begun, or could not.
    pub(super) exec: Option<OwnedFd>,
    /// The most bytes of each output that are kept for the reply.
    pub(super) collect: Option<usize>,
}

/// A worker whose raw process has applied its options, and waits until it is accepted.
#[derive(Debug)]
pub(super) struct SpawnedWorker {
    /// The call that is answered with its lane.
    pub(super) call: Arc<Call>,
    /// The lane that has started it, and the slot there.
    pub(super) parent: Lane,
    pub(super) slot: usize,
    pub(super) pid: i32,
    /// Process 1 of its pid namespace, when it has one of its own.
    pub(super) reaper: Option<i32>,
    pub(super) area: Area,
    pub(super) generation: u64,
    pub(super) root: Root,
    /// Variables of its commands.
    pub(super) env: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug)]
pub(super) enum SpawnedChild {
    Process(SpawnedProcess),
    Worker(SpawnedWorker),
}

/// The queue to the main thread.
#[derive(Debug)]
pub(super) struct Handover {
    queue: Mutex<Vec<SpawnedChild>>,
    wake: OwnedFd,
}

impl Handover {
    pub(super) fn new() -> Sys<Self> {
        Ok(Self {
            queue: Mutex::default(),
            wake: fd::eventfd()?,
        })
    }

    pub(super) fn push(&self, spawned: SpawnedChild) {
        lock(&self.queue).push(spawned);
        let _ = fd::write(self.wake.as_raw_fd(), &1_u64.to_ne_bytes());
    }

    pub(super) fn take(&self) -> Vec<SpawnedChild> {
        std::mem::take(&mut lock(&self.queue))
    }

    /// Readable when something was pushed.
    pub(super) fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    pub(super) fn clear_wake(&self) {
        let _ = fd::read(self.wake.as_raw_fd(), &mut [0; 8]);
    }
}
