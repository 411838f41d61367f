//! The router's end of an executor: its socket, its open calls, its commands.
//!
//! An executor ends its commands when it is asked to exit. One that a test kills cannot. So the router notes
//! the process of each open call when it starts, and kills its group if the executor ends first. A process
//! counts only if it is a child of the executor and leads its group.

use crate::executor::{self, Numbers, Root};
use crate::roots;
use crate::sys::packet::{self, BlockingMode};
use crate::sys::process::{self, ForkSide};
use crate::sys::{Errno, Sys, file, signal};
use provium_protocol::frame::HEADER_LEN;
use provium_protocol::{CallId, Event, Frame, FrameKind, Lane, codec};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// How long an executor may take to end after a request to do so.
pub(super) const EXIT_GRACE: Duration = Duration::from_secs(5);
/// Bytes that may be queued for an executor that does not read. Credit keeps the queue far below this.
const MAX_QUEUED: usize = 256 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct OpenCall {
    pub(super) cancelled: bool,
    /// The process of its command, once that runs.
    process: Option<i32>,
}

impl OpenCall {
    /// Kills the process group of its command, after the end of the executor.
    pub(super) fn kill_process(&self) {
        if let Some(pid) = self.process {
            let _ = signal::send(pid, libc::SIGKILL, true);
        }
    }
}

#[derive(Debug)]
pub(super) struct Executor {
    pub(super) pid: i32,
    socket: OwnedFd,
    queue: VecDeque<Vec<u8>>,
    queued_bytes: usize,
    pub(super) calls: BTreeMap<(Lane, CallId), OpenCall>,
}

impl Executor {
    /// Forks it from the router.
    pub(super) fn fork(root: Root, numbers: Numbers) -> Sys<Self> {
        let (ours, theirs) = packet::pair()?;
        match process::fork(0)? {
            ForkSide::Parent(pid) => Ok(Self {
                pid,
                socket: ours,
                queue: VecDeque::new(),
                queued_bytes: 0,
                calls: BTreeMap::new(),
            }),
            ForkSide::Child => executor::run(theirs, root, numbers),
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Sends a frame now, or as soon as the socket accepts it. An executor whose queue grows too long is
    /// killed.
    pub(super) fn send(&mut self, frame: &Frame) {
        let header = frame.header(frame.payload.len());
        if self.queue.is_empty() {
            match packet::send(self.fd(), [&header, &frame.payload], BlockingMode::Returns) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                // If this failed, the executor has ended, which is noticed elsewhere.
                _ => return,
            }
        }
        self.queued_bytes += HEADER_LEN + frame.payload.len();
        self.queue.push_back(frame.to_bytes());
        if self.queued_bytes > MAX_QUEUED {
            let _ = signal::send(self.pid, libc::SIGKILL, false);
        }
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Sends the queued frames.
    pub(super) fn flush(&mut self) {
        while let Some(bytes) = self.queue.front() {
            match packet::send(self.fd(), [bytes, &[]], BlockingMode::Returns) {
                Err(Errno::AGAIN | Errno::INTR) => return,
                _ => {
                    self.queued_bytes -= bytes.len();
                    self.queue.pop_front();
                }
            }
        }
    }

    /// The next packet; `None` when there is none.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        match packet::receive(self.fd(), buffer, BlockingMode::Returns) {
            Ok(len) if len > 0 => Some(&buffer[..len]),
            _ => None,
        }
    }

    /// Notes the process that an event of an open call reports.
    pub(super) fn note_process(&mut self, call: (Lane, CallId), event: &[u8]) {
        let Ok(Event::Started { pid }) = codec::decode::<Event>(event) else {
            return;
        };
        let pid = pid.cast_signed();
        if let Some(call) = self.calls.get_mut(&call)
            && parent_and_group(pid) == Some((self.pid, pid))
        {
            call.process = Some(pid);
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

/// The fourth and fifth field of `/proc/PID/stat`, behind a name that may hold anything.
fn parent_and_group(pid: i32) -> Option<(i32, i32)> {
    let stat = file::read_at(roots::PROC, &format!("{pid}/stat")).ok()?;
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace().skip(1);
    let mut number = || fields.next()?.parse().ok();
    Some((number()?, number()?))
}

/// What the router has to know of a packet of the executor's: one or more frames of a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PacketHeader {
    pub(super) lane: Lane,
    pub(super) call: CallId,
    /// Kind of the last frame. A packet with an event has no other frame.
    pub(super) kind: FrameKind,
    /// Whether the last frame is a part of a message that continues.
    pub(super) more: bool,
}

/// Reads the headers of a packet; `None` if an executor may not send that.
pub(super) fn read_header(packet: &[u8]) -> Option<PacketHeader> {
    let (first, mut rest) = read_frame(packet)?;
    let mut last = first;
    while !rest.is_empty() {
        let (next, after) = read_frame(rest)?;
        // Only frames that are complete may precede another one.
        if last.more
            || !matches!(last.kind, FrameKind::Data | FrameKind::End)
            || next.kind == FrameKind::Event
            || (next.lane, next.call) != (last.lane, last.call)
        {
            return None;
        }
        (last, rest) = (next, after);
    }
    Some(last)
}

/// The header of the first frame, and the bytes after that frame.
fn read_frame(bytes: &[u8]) -> Option<(PacketHeader, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
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
    let (_, rest) = rest.split_at_checked(word(0) as usize)?;
    let is_valid =
        header[5] & !provium_protocol::frame::FLAG_MORE == 0 && header[6] < 3 && header[7] == 0;
    let header = PacketHeader {
        kind,
        more: header[5] != 0,
        lane: Lane(word(8)),
        call: CallId(word(12)),
    };
    is_valid.then_some((header, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_protocol::StreamId;

    const CALL: CallId = CallId(7);

    fn packet(frames: &[Frame]) -> Vec<u8> {
        frames.iter().flat_map(Frame::to_bytes).collect()
    }

    fn reply(call: CallId) -> Frame {
        Frame::new(FrameKind::Reply, Lane::VM, call, b"ok".to_vec())
    }

    #[test]
    fn a_packet_is_known_by_its_last_frame() {
        let data = Frame::data(Lane::VM, CALL, StreamId::Output, b"x".to_vec());
        let end = Frame::end(Lane::VM, CALL, StreamId::Output);
        let header = read_header(&packet(&[data, end, reply(CALL)])).unwrap();
        assert_eq!((header.kind, header.more), (FrameKind::Reply, false));
        assert_eq!((header.lane, header.call), (Lane::VM, CALL));
    }

    #[test]
    fn a_packet_of_several_calls_or_of_an_incomplete_frame_is_refused() {
        let end = Frame::end(Lane::VM, CALL, StreamId::Output);
        assert_eq!(read_header(&packet(&[end, reply(CallId(8))])), None);
        assert_eq!(read_header(&packet(&[reply(CALL), reply(CALL)])), None);
        let bytes = packet(&[reply(CALL)]);
        assert_eq!(read_header(&bytes[..bytes.len() - 1]), None);
        assert_eq!(read_header(&[]), None);
    }
}
