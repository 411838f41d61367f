//! The router's view of the executor: its socket, its open calls, its exit.

use crate::executor::{self, Numbers, Root};
use crate::sys::packet::{self, Waiting};
use crate::sys::process::{self, Forked};
use crate::sys::{Errno, Sys};
use provium_protocol::frame::HEADER_LEN;
use provium_protocol::{CallId, Frame, FrameKind, Lane};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// How long an executor may take to end after a request to do so.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// Bytes that may be queued for an executor that does not read. Credit keeps the queue far below this.
const BACKLOG: usize = 256 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct OpenCall {
    pub(super) cancelled: bool,
    /// The command's, once it runs.
    pub(super) process: Option<i32>,
}

/// The executor.
#[derive(Debug)]
pub(super) struct Executor {
    pub(super) pid: i32,
    socket: OwnedFd,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    pub(super) calls: BTreeMap<(Lane, CallId), OpenCall>,
}

impl Executor {
    /// Forks it off the router.
    pub(super) fn fork(root: Root, numbers: Numbers) -> Sys<Self> {
        let (ours, theirs) = packet::pair()?;
        match process::fork(0)? {
            Forked::Parent(pid) => Ok(Self {
                pid,
                socket: ours,
                waiting: VecDeque::new(),
                waiting_bytes: 0,
                calls: BTreeMap::new(),
            }),
            Forked::Child => executor::run(theirs, root, numbers),
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Sends a frame now, or as soon as the socket accepts it. An executor whose queue grows too long is
    /// killed.
    pub(super) fn send(&mut self, frame: &Frame) {
        let header = frame.header(frame.payload.len());
        if self.waiting.is_empty() {
            match packet::send(self.fd(), [&header, &frame.payload], Waiting::Returns) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Gone, if it failed: its end will be noticed.
                _ => return,
            }
        }
        self.waiting_bytes += HEADER_LEN + frame.payload.len();
        self.waiting.push_back(frame.to_bytes());
        if self.waiting_bytes > BACKLOG {
            let _ = crate::sys::signal::send(self.pid, libc::SIGKILL, false);
        }
    }

    pub(super) fn has_backlog(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends the queued frames.
    pub(super) fn flush(&mut self) {
        while let Some(bytes) = self.waiting.front() {
            match packet::send(self.fd(), [bytes, &[]], Waiting::Returns) {
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
            Ok(len) if len > 0 => Some(&buffer[..len]),
            _ => None,
        }
    }

    /// Requests it to exit, after it has ended everything that it has started.
    pub(super) fn dismiss(&mut self) {
        self.send(&Frame::new(
            FrameKind::Goodbye,
            Lane::AGENT,
            CallId(0),
            Vec::new(),
        ));
    }
}

/// The content of a packet's header, if an executor may send it.
pub(super) struct Upward {
    pub(super) kind: FrameKind,
    pub(super) more: bool,
    pub(super) lane: Lane,
    pub(super) call: CallId,
}

/// Reads a packet's header.
pub(super) fn inspect(packet: &[u8]) -> Option<Upward> {
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
        && header[7] == 0;
    sound.then(|| Upward {
        kind,
        more: header[5] != 0,
        lane: Lane(word(8)),
        call: CallId(word(12)),
    })
}
