//! The executors: their sockets, their open calls, their ends.

use crate::executor;
use crate::failure;
use crate::roots;
use crate::sys::packet::{self, Received, Waiting};
use crate::sys::process::{self, Forked};
use crate::sys::{Errno, Sys, fd};
use provium_protocol::frame::HEADER_LEN;
use provium_protocol::{CallId, Frame, FrameKind, Lane, WireError};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How long a lane may take to answer a cancelled call, or to end when told to.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// What may wait for a lane that does not read. Credit keeps it far below.
const BACKLOG: usize = 64 * 1024 * 1024;

/// Who gets a call's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Host,
    /// The task of this call to lane 0.
    Task(CallId),
}

#[derive(Debug)]
pub(super) struct OpenCall {
    pub(super) owner: Owner,
    pub(super) cancelled: Option<Instant>,
    /// The command's, once it runs.
    pub(super) process: Option<i32>,
}

/// Why a lane's process is expected to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// The host retires it; the call to lane 0 that wants to know.
    Retired(Option<CallId>),
}

/// The process of a lane.
#[derive(Debug)]
pub(super) struct Executor {
    pub(super) pid: i32,
    pub(super) socket: OwnedFd,
    waiting: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    waiting_bytes: usize,
    pub(super) calls: BTreeMap<CallId, OpenCall>,
    /// The call to lane 0 that waits for the worker to be ready.
    pub(super) starting: Option<CallId>,
    pub(super) leaving: Option<(Leaving, Instant)>,
}

/// A lane.
#[derive(Debug)]
pub(super) enum LaneState {
    Alive(Executor),
    /// A worker's, and how it ended.
    Dead(String),
}

impl LaneState {
    pub(super) fn alive(&self) -> Option<&Executor> {
        match self {
            Self::Alive(executor) => Some(executor),
            Self::Dead(_) => None,
        }
    }

    pub(super) fn alive_mut(&mut self) -> Option<&mut Executor> {
        match self {
            Self::Alive(executor) => Some(executor),
            Self::Dead(_) => None,
        }
    }

    /// Why a call to it fails; `None` when it need not.
    pub(super) fn refusal(&self) -> Option<WireError> {
        match self {
            Self::Alive(_) => None,
            Self::Dead(how) => Some(failure::lane_died(how)),
        }
    }
}

impl Executor {
    /// Forks the executor of a lane off the router.
    pub(super) fn fork(lane: Lane, inherit: impl FnOnce() -> executor::Inheritance) -> Sys<Self> {
        let (ours, theirs) = packet::pair()?;
        match process::fork(0)? {
            Forked::Parent(pid) => Ok(Self::new(pid, ours)),
            Forked::Child => {
                if lane != Lane::COMMANDS {
                    // It is as large as a test makes it.
                    crate::init::expose_to_oom_killer();
                }
                executor::adopt_socket(theirs);
                fd::close_range(3, roots::FIRST_OWN - 1);
                executor::run(lane, inherit())
            }
        }
    }

    pub(super) fn new(pid: i32, socket: OwnedFd) -> Self {
        Self {
            pid,
            socket,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            calls: BTreeMap::new(),
            starting: None,
            leaving: None,
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Sends a frame now, or as soon as the socket takes it. A lane that lets too much pile up is
    /// killed.
    pub(super) fn send(&mut self, frame: &Frame, passed: Option<OwnedFd>) {
        let header = frame.header(frame.payload.len());
        if self.waiting.is_empty() {
            let number = passed.as_ref().map(AsRawFd::as_raw_fd);
            match packet::send(
                self.fd(),
                [&header, &frame.payload],
                number,
                Waiting::Returns,
            ) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Gone, if it failed: its end will be noticed.
                _ => return,
            }
        }
        self.waiting_bytes += HEADER_LEN + frame.payload.len();
        self.waiting.push_back((frame.to_bytes(), passed));
        if self.waiting_bytes > BACKLOG {
            self.kill();
        }
    }

    pub(super) fn has_backlog(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends what waited.
    pub(super) fn flush(&mut self) {
        while let Some((bytes, passed)) = self.waiting.front() {
            let number = passed.as_ref().map(AsRawFd::as_raw_fd);
            match packet::send(self.fd(), [bytes, &[]], number, Waiting::Returns) {
                Err(Errno::AGAIN | Errno::INTR) => return,
                _ => {
                    self.waiting_bytes -= bytes.len();
                    self.waiting.pop_front();
                }
            }
        }
    }

    /// The next packet; `None` when there is none.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        match packet::receive(self.fd(), buffer, Waiting::Returns) {
            Ok(Received { len, .. }) if len > 0 => Some(&buffer[..len]),
            _ => None,
        }
    }

    /// Tells it to end, with its commands.
    pub(super) fn dismiss(&mut self, leaving: Leaving) {
        self.send(
            &Frame::new(FrameKind::Hello, Lane::AGENT, CallId(0), Vec::new()),
            None,
        );
        self.leaving = Some((leaving, Instant::now() + GRACE));
    }

    pub(super) fn kill(&self) {
        let _ = crate::sys::signal::send(self.pid, libc::SIGKILL, false);
    }

    /// When it counts as stuck.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let cancelled = self.calls.values().filter_map(|call| call.cancelled).min();
        let graces = cancelled.map(|time| time + GRACE);
        let leaving = self.leaving.map(|(_, until)| until);
        graces.into_iter().chain(leaving).min()
    }
}

/// What a packet's header says, if an executor can have sent it.
pub(super) struct Upward {
    pub(super) kind: FrameKind,
    pub(super) more: bool,
    pub(super) call: CallId,
}

/// Reads a packet's header. A test can write to its executor's socket, so nothing is believed.
pub(super) fn inspect(packet: &[u8], lane: Lane) -> Option<Upward> {
    let header = packet.first_chunk::<HEADER_LEN>()?;
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let kind = [
        FrameKind::Reply,
        FrameKind::Event,
        FrameKind::Data,
        FrameKind::End,
        FrameKind::Credit,
    ]
    .into_iter()
    .find(|kind| *kind as u8 == header[4])?;
    let sound = word(0) as usize == packet.len() - HEADER_LEN
        && header[5] & !provium_protocol::frame::FLAG_MORE == 0
        && header[6] < 3
        && header[7] == 0
        && word(8) == lane.0;
    sound.then(|| Upward {
        kind,
        more: header[5] != 0,
        call: CallId(word(12)),
    })
}
