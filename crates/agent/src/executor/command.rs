//! A command or transfer that runs: its pipes and its end. Owned by the main thread.
//!
//! A command is over when its process is, even if some child of it still holds the pipes: what is in
//! them at that moment is sent, and no more is waited for.
//!
//! Output that comes in many small pieces is gathered for a moment, so that a line costs less than a
//! message.

use super::call::{Call, Input};
use super::shared::Shared;
use crate::failure::{self, OpResult};
use crate::sys::process::Ending;
use crate::sys::slot::{Slot, SlotState};
use crate::sys::terminal::END_OF_INPUT;
use crate::sys::{Errno, clock, fd};
use provium_protocol::frame::MAX_PAYLOAD;
use provium_protocol::message::Exit;
use provium_protocol::{Channel, ErrorKind, Event, Reply, WireError, codec};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most that the kernel holds of a terminal's output: 64 KiB of flip buffers, and the line discipline's own.
const TERMINAL_CAPACITY: usize = 80 * 1024;
/// How long a command of which the caller awaits the end runs before its start is reported. Each report
/// interrupts the command itself, which costs a short one a tenth of its time.
const REPORT_START_AFTER: Duration = Duration::from_millis(50);
/// How long output is gathered after a message.
const GATHER: Duration = Duration::from_millis(1);
/// The most of a file's content in a batch's results.
const INLINE_LIMIT: usize = 4 * 1024 * 1024;

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A program, with or without a terminal.
    Command { terminal: bool },
    /// An operation that moves bytes.
    Transfer,
    /// A connection to a server, whose streams end by themselves.
    Connection,
}

/// What an owner's thread hands over.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) call: Arc<Call>,
    pub(super) pid: i32,
    pub(super) slot: usize,
    pub(super) kind: Kind,
    pub(super) outputs: Vec<(Channel, OwnedFd)>,
    pub(super) input: Option<OwnedFd>,
    /// Bytes for the input, instead of those that the host sends.
    pub(super) input_bytes: Option<Vec<u8>>,
    /// Ends when the program has begun, or could not.
    pub(super) exec: Option<OwnedFd>,
    /// Keep at most so many bytes of each output for the reply.
    pub(super) collect: Option<usize>,
}

pub(super) struct Command {
    call: Arc<Call>,
    pub(super) pid: i32,
    slot: usize,
    kind: Kind,
    started: u64,
    exec: Option<OwnedFd>,
    /// When to look whether the program has begun; `None`: at once.
    look_at_start: Option<Instant>,
    exit: Option<Exit>,
    /// The result of a transfer, or why a program did not begin.
    result: Option<OpResult>,
    outputs: Vec<Output>,
    input: Option<Feed>,
}

/// One stream that the command writes.
struct Output {
    channel: Channel,
    fd: Option<OwnedFd>,
    /// Kept for the reply.
    kept: Option<Kept>,
    /// Once the command has ended: how much of it is still to be read.
    left: Option<usize>,
    /// The end is sent with the result: of a transfer, which may have failed, and of a command of which the
    /// caller awaits the end.
    ends_late: bool,
    /// The slot of a connection. A pipe that ends when the result is in it has no end of its own.
    slot: Option<&'static Slot>,
    /// When it was read last, and until when it is left alone.
    read: Option<Instant>,
    gathering: Option<Instant>,
}

/// The beginning and the end of an output, within a limit.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    limit: usize,
    first: Vec<u8>,
    last: VecDeque<u8>,
    dropped: u64,
}

/// What the command reads.
struct Feed {
    /// The call is cancelled: no more comes than what is there.
    last: bool,
    fd: OwnedFd,
    /// Everything is there already; the host sends nothing.
    own: bool,
    bytes: Vec<u8>,
    written: usize,
    ended: bool,
}

/// Which descriptor of a command a poll entry stands for.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Exec,
    Output(usize),
    Input,
}

impl Kept {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            first: Vec::new(),
            last: VecDeque::new(),
            dropped: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let first = bytes
            .len()
            .min((self.limit / 2).saturating_sub(self.first.len()));
        self.first.extend_from_slice(&bytes[..first]);
        self.last.extend(&bytes[first..]);
        let excess = self.last.len().saturating_sub(self.limit - self.limit / 2);
        self.last.drain(..excess);
        self.dropped += excess as u64;
    }

    fn take(self) -> (Vec<u8>, u64) {
        let mut bytes = self.first;
        bytes.extend(self.last);
        (bytes, self.dropped)
    }
}

impl Command {
    pub(super) fn new(parts: Started) -> Self {
        let is_awaited = parts.call.command == Some(false);
        let slot = (parts.kind == Kind::Connection).then(|| parts.call.owner.area.slot(parts.slot));
        let outputs = parts.outputs.into_iter().map(|(channel, fd)| Output {
            channel,
            fd: Some(fd),
            kept: parts.collect.map(Kept::new),
            left: None,
            ends_late: is_awaited || parts.kind == Kind::Transfer,
            slot,
            read: None,
            gathering: None,
        });
        let own = parts.input_bytes.is_some();
        let bytes = parts.input_bytes.unwrap_or_default();
        Self {
            outputs: outputs.collect(),
            input: parts.input.map(|fd| Feed {
                last: false,
                fd,
                own,
                bytes,
                written: 0,
                ended: own,
            }),
            call: parts.call,
            pid: parts.pid,
            slot: parts.slot,
            kind: parts.kind,
            started: clock::monotonic(),
            look_at_start: is_awaited.then(|| Instant::now() + REPORT_START_AFTER),
            exec: parts.exec,
            exit: None,
            result: None,
        }
    }

    fn is_terminal(&self) -> bool {
        self.kind == Kind::Command { terminal: true }
    }

    /// What to wait for.
    pub(super) fn interests(&mut self, now: Instant, mut add: impl FnMut(RawFd, i16, Role)) {
        if self.look_at_start.is_some_and(|time| now >= time) {
            self.look_at_start = None;
        }
        if let Some(exec) = &self.exec
            && self.look_at_start.is_none()
        {
            add(exec.as_raw_fd(), libc::POLLIN, Role::Exec);
        }
        for (index, output) in self.outputs.iter_mut().enumerate() {
            if output.gathering.is_some_and(|until| now < until) {
                continue;
            }
            output.gathering = None;
            if let Some(fd) = &output.fd
                && output.room(&self.call) > 0
            {
                add(fd.as_raw_fd(), libc::POLLIN, Role::Output(index));
            }
        }
        if let Some(feed) = &mut self.input
            && feed.refill(&self.call)
        {
            add(feed.fd.as_raw_fd(), libc::POLLOUT, Role::Input);
        }
    }

    /// When to look again although nothing is ready.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let gathering = self.outputs.iter().filter_map(|output| output.gathering);
        let start = self.look_at_start.filter(|_| self.exec.is_some());
        gathering.chain(start).min()
    }

    /// Does what can be done on one descriptor without waiting.
    pub(super) fn ready(&mut self, role: Role, shared: &Shared, buffer: &mut [u8]) {
        match role {
            Role::Exec => {
                if self.begun() {
                    let pid = self.pid.unsigned_abs();
                    shared.event(&self.call, &Event::Started { pid });
                }
            }
            Role::Output(index) => {
                if let Some(output) = self.outputs.get_mut(index) {
                    output.pump(shared, &self.call, buffer);
                }
            }
            Role::Input => self.feed(shared),
        }
    }

    /// The program has begun, or could not. Returns whether this is the first report that it has begun.
    fn begun(&mut self) -> bool {
        if self.exec.take().is_none() {
            return false;
        }
        let slot = self.call.owner.area.slot(self.slot);
        let failed = slot.get() == SlotState::Done;
        if failed {
            self.result = Some(self.left_result());
        }
        self.call.owner.free_slot(self.slot);
        !failed
    }

    /// What the process has left in its slot.
    fn left_result(&self) -> OpResult {
        let owner = &self.call.owner;
        let message = owner.take_message(self.slot, self.pid);
        codec::decode(&message)
            .unwrap_or_else(|_| Err(failure::invalid("the result cannot be read")))
    }

    fn feed(&mut self, shared: &Shared) {
        let Some(feed) = &mut self.input else { return };
        match fd::write(feed.fd.as_raw_fd(), &feed.bytes[feed.written..]) {
            Ok(put) => {
                feed.written += put;
                if !feed.own {
                    shared.grant_input(&self.call, put);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The command has closed its input: further bytes are dropped.
            Err(_) => self.input = None,
        }
    }

    /// Closes what is written out.
    fn settle_input(&mut self, shared: &Shared) {
        let terminal = self.is_terminal();
        let Some(feed) = &mut self.input else {
            // A host that still writes must not wait for a reader that does not exist.
            while let Some(Input::Bytes(dropped)) = self.call.try_input() {
                shared.grant_input(&self.call, dropped.len());
            }
            return;
        };
        feed.refill(&self.call);
        if !feed.ended || feed.written < feed.bytes.len() {
            return;
        }
        if terminal {
            // A terminal has no end of its own; the line discipline makes one.
            if feed.bytes.last() != Some(&END_OF_INPUT) {
                feed.bytes = vec![END_OF_INPUT];
                feed.written = 0;
                return;
            }
        }
        self.input = None;
    }

    /// The process has ended: takes note how, and how much output it left.
    pub(super) fn ended(&mut self, ending: Ending, shared: &Shared) {
        self.call.process_gone();
        if self.begun() && self.call.command == Some(true) {
            let pid = self.pid.unsigned_abs();
            shared.event(&self.call, &Event::Started { pid });
        }
        if matches!(self.kind, Kind::Transfer | Kind::Connection) {
            let slot = self.call.owner.area.slot(self.slot);
            self.result = Some(if slot.get() == SlotState::Done {
                self.left_result()
            } else {
                Err(failure::invalid(format!("its process {ending}")))
            });
            self.call.owner.free_slot(self.slot);
        }
        let (code, signal) = match ending {
            Ending::Exited(code) => (Some(code), None),
            Ending::Signalled(signal) => (None, Some(signal)),
        };
        self.exit = Some(Exit {
            code,
            signal,
            duration_ns: clock::monotonic().saturating_sub(self.started),
        });
        self.input = None;
        let terminal = self.is_terminal();
        for output in &mut self.outputs {
            output.gathering = None;
            // From now on others may use the slot.
            output.ends_late |= output.slot.take().is_some();
            output.left = output.fd.as_ref().map(|fd| {
                if terminal {
                    TERMINAL_CAPACITY
                } else {
                    fd::readable_bytes(fd.as_raw_fd())
                }
            });
        }
    }

    /// Moves on as far as possible without waiting; true when the call has been answered.
    pub(super) fn settle(&mut self, shared: &Shared) -> bool {
        if self.kind == Kind::Connection && self.is_given_up() {
            self.close_connection();
        }
        self.settle_input(shared);
        let Some(exit) = self.exit else { return false };
        if self.is_terminal() {
            self.drain(shared);
        }
        // The host grants no credit to a call that it has cancelled.
        let given_up = self.is_given_up();
        for output in &mut self.outputs {
            let drained = output.left == Some(0);
            let stuck = given_up && output.room(&self.call) == 0;
            if output.fd.is_some() && (drained || stuck) {
                output.close(shared, &self.call);
            }
        }
        if self.outputs.iter().any(|output| output.fd.is_some()) {
            return false;
        }
        if matches!(self.kind, Kind::Command { .. }) {
            for output in &self.outputs {
                if output.ends_late && output.kept.is_none() {
                    shared.end(&self.call, output.channel);
                }
            }
        }
        let result = if self.call.is_cancelled() {
            Err(failure::cancelled())
        } else if let Some(how) = self.call.owner.death() {
            Err(failure::lane_died(how))
        } else {
            self.reply(exit)
        };
        if result.is_ok() && self.call.sends_output {
            shared.end(&self.call, Channel::Output);
        }
        shared.finish(&self.call, result);
        true
    }

    fn is_given_up(&self) -> bool {
        self.call.is_cancelled() || self.call.is_answered()
    }

    /// The host has closed the connection: the process is to send what it was given before, and to end.
    fn close_connection(&mut self) {
        for output in &mut self.outputs {
            output.fd = None;
        }
        if let Some(feed) = &mut self.input {
            feed.last = true;
        }
    }

    /// Reads what a terminal has left, as far as credit allows. Once the process has been reaped, the
    /// kernel (from 4.7) answers EAGAIN only when the reader has everything that the process wrote.
    fn drain(&mut self, shared: &Shared) {
        let mut buffer = [0; 4096];
        for output in &mut self.outputs {
            while output.fd.is_some() && output.room(&self.call) > 0 {
                output.pump(shared, &self.call, &mut buffer);
            }
        }
    }

    fn reply(&mut self, exit: Exit) -> OpResult {
        let kept: Vec<_> = self
            .outputs
            .iter_mut()
            .filter_map(|output| output.kept.take().map(Kept::take))
            .collect();
        let result = self.result.take();
        let mut kept = kept.into_iter();
        match (self.kind, result, kept.next()) {
            (Kind::Command { .. } | Kind::Connection, Some(result), _)
            | (Kind::Transfer, Some(result), None) => result,
            (Kind::Transfer, Some(Err(error)), _) => Err(error),
            (Kind::Transfer, _, Some((_, 1..))) => Err(WireError {
                kind: ErrorKind::TooLarge,
                errno: 0,
                message: format!("content of more than {INLINE_LIMIT} bytes"),
            }),
            (Kind::Transfer, _, Some((bytes, 0))) => Ok(Reply::Bytes(bytes.into())),
            (Kind::Command { .. }, None, Some((stdout, stdout_dropped))) => {
                let (stderr, stderr_dropped) = kept.next().unwrap_or_default();
                Ok(Reply::Ran {
                    exit,
                    stdout: stdout.into(),
                    stderr: stderr.into(),
                    stdout_dropped,
                    stderr_dropped,
                })
            }
            // Neither has a connection's output a limit, nor its process an end without a result.
            (Kind::Connection, None, _) => Err(failure::invalid("its process left no result")),
            (_, None, None) => Ok(Reply::Exited(exit)),
        }
    }
}

impl Output {
    /// How much may be read now.
    fn room(&self, call: &Call) -> usize {
        let wanted = if self.kept.is_some() {
            MAX_PAYLOAD
        } else {
            call.credit(self.channel)
        };
        wanted.min(MAX_PAYLOAD).min(self.left.unwrap_or(usize::MAX))
    }

    fn pump(&mut self, shared: &Shared, call: &Call, buffer: &mut [u8]) {
        let room = self.room(call).min(buffer.len());
        let Some(fd) = self.fd.as_ref().filter(|_| room > 0) else {
            return;
        };
        let now = Instant::now();
        if self.left.is_none()
            && let Some(read) = self.read
            && now < read + GATHER
            && fd::readable_bytes(fd.as_raw_fd()) < MAX_PAYLOAD / 2
        {
            self.gathering = Some(read + GATHER);
            self.read = None;
            return;
        }
        self.read = Some(now);
        match fd::read(fd.as_raw_fd(), &mut buffer[..room]) {
            // A terminal whose other side is closed says EIO.
            Ok(0) | Err(Errno::IO) => self.close(shared, call),
            Ok(got) => {
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(got);
                }
                match &mut self.kept {
                    Some(kept) => kept.push(&buffer[..got]),
                    None => shared.data(call, self.channel, &buffer[..got]),
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if self.left.is_none() => {}
            Err(_) => self.close(shared, call),
        }
    }

    fn close(&mut self, shared: &Shared, call: &Call) {
        self.fd = None;
        let has_result = |slot: &Slot| slot.get() == SlotState::Done;
        let ends_late = self.ends_late || self.slot.is_some_and(has_result);
        if self.kept.is_none() && !ends_late {
            shared.end(call, self.channel);
        }
    }
}

impl Feed {
    /// Takes the next bytes that came; true when there are some to write.
    fn refill(&mut self, call: &Call) -> bool {
        while self.written == self.bytes.len() && !self.ended {
            match call.try_input() {
                Some(Input::Bytes(bytes)) => (self.bytes, self.written) = (bytes, 0),
                Some(Input::End) => self.ended = true,
                None if self.last => self.ended = true,
                None => break,
            }
        }
        self.written < self.bytes.len()
    }
}

/// How much of a file is kept for a reply.
pub(super) fn inline_limit() -> usize {
    INLINE_LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_comes_from_the_middle() {
        let mut kept = Kept::new(6);
        kept.push(b"ab");
        kept.push(b"cdefg");
        kept.push(b"hi");
        assert_eq!(kept.take(), (b"abcghi".to_vec(), 3));
        let mut all = Kept::new(6);
        all.push(b"abcdef");
        assert_eq!(all.take(), (b"abcdef".to_vec(), 0));
    }
}
