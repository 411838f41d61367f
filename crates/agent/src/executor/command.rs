//! A command that runs: its pipes and its end. Owned by the I/O thread.
//!
//! The command is over when its process is, even if some child of it still holds the pipes: what
//! is in them at that moment is sent, and no more is waited for.

use super::call::{Call, Input};
use super::job::Started;
use super::shared::Shared;
use crate::failure;
use crate::sys::process::{self, Ending};
use crate::sys::terminal::END_OF_INPUT;
use crate::sys::{Errno, clock, fd};
use provium_protocol::frame::MAX_PAYLOAD;
use provium_protocol::message::Exit;
use provium_protocol::{Channel, Reply};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a terminal's last output may take from the line discipline to the reader.
const TERMINAL_FLUSH: Duration = Duration::from_millis(100);

pub(crate) struct Command {
    call: Arc<Call>,
    pid: i32,
    started: u64,
    /// Readable when the process has ended; `None` once it has been collected.
    end: Option<OwnedFd>,
    exit: Option<Exit>,
    outputs: Vec<Output>,
    input: Option<Feed>,
    terminal: bool,
    /// When a terminal counts as flushed.
    flushed_by: Option<Instant>,
}

/// One stream that the command writes.
struct Output {
    channel: Channel,
    fd: Option<OwnedFd>,
    /// Kept for the reply, up to a limit.
    kept: Option<(Vec<u8>, usize)>,
    /// How much was not kept.
    dropped: u64,
    /// Once the command has ended: how much of it is still to be read.
    left: Option<usize>,
}

/// What the command reads.
struct Feed {
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
    End,
    Output(usize),
    Input,
}

impl Command {
    pub(super) fn new(parts: Started) -> Self {
        let outputs = parts.outputs.into_iter().map(|(channel, fd)| Output {
            channel,
            fd: Some(fd),
            kept: parts.collect.map(|limit| (Vec::new(), limit)),
            dropped: 0,
            left: None,
        });
        let own = parts.input_bytes.is_some();
        let bytes = parts.input_bytes.unwrap_or_default();
        Self {
            outputs: outputs.collect(),
            input: parts.input.map(|fd| Feed {
                fd,
                own,
                bytes,
                written: 0,
                ended: own,
            }),
            call: parts.call,
            pid: parts.pid,
            started: parts.started,
            end: Some(parts.end),
            exit: None,
            terminal: parts.terminal,
            flushed_by: None,
        }
    }

    /// What to wait for.
    pub(super) fn interests(&mut self, mut add: impl FnMut(RawFd, i16, Role)) {
        if let Some(end) = &self.end {
            add(end.as_raw_fd(), libc::POLLIN, Role::End);
        }
        for (index, output) in self.outputs.iter().enumerate() {
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
        self.flushed_by
    }

    /// Does what can be done on one descriptor without waiting.
    pub(super) fn ready(&mut self, role: Role, shared: &Shared, buffer: &mut [u8]) {
        match role {
            Role::End => self.collect(),
            Role::Output(index) => {
                if let Some(output) = self.outputs.get_mut(index) {
                    output.pump(shared, &self.call, buffer);
                }
            }
            Role::Input => self.feed(shared),
        }
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
            // Nobody reads any more: what still comes is dropped.
            Err(_) => self.input = None,
        }
    }

    /// Closes what is written out.
    fn settle_input(&mut self, shared: &Shared) {
        let Some(feed) = &mut self.input else {
            // Whoever still writes must not wait for a reader that is not there.
            while let Some(Input::Bytes(dropped)) = self.call.try_input() {
                shared.grant_input(&self.call, dropped.len());
            }
            return;
        };
        feed.refill(&self.call);
        if !feed.ended || feed.written < feed.bytes.len() {
            return;
        }
        if self.terminal {
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
    fn collect(&mut self) {
        self.call.process_gone();
        let ending = match process::collect(self.pid) {
            Ok(Some((_, ending))) => ending,
            Ok(None) => return,
            // A raw wait of the test's own was quicker.
            Err(_) => Ending::Unknown,
        };
        let (code, signal) = match ending {
            Ending::Exited(code) => (Some(code), None),
            Ending::Signalled(signal) => (None, Some(signal)),
            Ending::Unknown => (None, None),
        };
        let duration_ns = clock::monotonic().saturating_sub(self.started);
        self.exit = Some(Exit {
            code,
            signal,
            duration_ns,
        });
        self.end = None;
        self.input = None;
        if self.terminal {
            self.flushed_by = Some(Instant::now() + TERMINAL_FLUSH);
        }
        for output in &mut self.outputs {
            output.left = output.fd.as_ref().map(|fd| {
                if self.terminal {
                    usize::MAX
                } else {
                    fd::readable_bytes(fd.as_raw_fd())
                }
            });
        }
    }

    /// Moves on as far as possible without waiting; true when the call has been answered.
    pub(super) fn settle(&mut self, shared: &Shared) -> bool {
        self.settle_input(shared);
        let Some(exit) = self.exit else { return false };
        let flushed = self.flushed_by.is_some_and(|time| Instant::now() >= time);
        let cancelled = self.call.is_cancelled();
        for output in &mut self.outputs {
            let drained = output.left == Some(0) || flushed;
            // Nobody grants credit to a call that was called off.
            let stuck = cancelled && output.room(&self.call) == 0;
            if output.fd.is_some() && (drained || stuck) {
                output.close(shared, &self.call);
            }
        }
        if self.outputs.iter().any(|output| output.fd.is_some()) {
            return false;
        }
        let result = if cancelled {
            Err(failure::cancelled())
        } else {
            Ok(self.reply(exit))
        };
        shared.finish(&self.call, result);
        true
    }

    fn reply(&mut self, exit: Exit) -> Reply {
        let mut kept = self
            .outputs
            .iter_mut()
            .filter_map(|output| Some((output.kept.take()?.0, output.dropped)));
        match kept.next() {
            Some((stdout, stdout_dropped)) => {
                let (stderr, stderr_dropped) = kept.next().unwrap_or_default();
                Reply::Ran {
                    exit,
                    stdout: stdout.into(),
                    stderr: stderr.into(),
                    stdout_dropped,
                    stderr_dropped,
                }
            }
            None => Reply::Exited(exit),
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
        match fd::read(fd.as_raw_fd(), &mut buffer[..room]) {
            // A terminal whose other side is closed says EIO.
            Ok(0) | Err(Errno::IO) => self.close(shared, call),
            Ok(got) => {
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(got);
                }
                match &mut self.kept {
                    Some((bytes, limit)) => {
                        let keep = got.min(limit.saturating_sub(bytes.len()));
                        bytes.extend_from_slice(&buffer[..keep]);
                        self.dropped += (got - keep) as u64;
                    }
                    None => shared.data(call, self.channel, &buffer[..got]),
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.close(shared, call),
        }
    }

    fn close(&mut self, shared: &Shared, call: &Call) {
        self.fd = None;
        if self.kept.is_none() {
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
                None => break,
            }
        }
        self.written < self.bytes.len()
    }
}
