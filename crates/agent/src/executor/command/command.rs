//! A command or transfer that runs: its pipes and its end. Owned by the main thread.
//!
//! A command is over when its process is, even if some child of it still holds the pipes: what is in
//! them at that moment is sent, and no more is waited for.

use super::input::InputFeed;
use super::output::{HeadAndTail, Output};
use crate::executor::call::{Call, CallKind, Input, RunMode};
use crate::executor::calls::Calls;
use crate::executor::owner::{INLINE_LIMIT, Owner};
use crate::executor::spawned::{ProcessKind, SpawnedProcess};
use crate::failure::{self, OpResult};
use crate::sys::process::ExitStatus;
use crate::sys::slot::SlotState;
use crate::sys::terminal::{self, END_OF_INPUT};
use crate::sys::{Errno, Sys, clock, fd};
use provium_protocol::message::Exit;
use provium_protocol::op::WindowSize;
use provium_protocol::{CallId, ErrorKind, Event, Lane, Reply, StreamId, WireError, codec};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a command of which the caller awaits the end runs before its start is reported. Each report
/// interrupts the command itself, which costs a short one a tenth of its time.
const REPORT_START_AFTER: Duration = Duration::from_millis(50);

pub(in crate::executor) struct Command {
    call: Arc<Call>,
    owner: Arc<Owner>,
    pub(in crate::executor) pid: i32,
    slot: usize,
    kind: ProcessKind,
    started: u64,
    exec: Option<OwnedFd>,
    /// When to look whether the program has begun; `None`: at once.
    look_at_start: Option<Instant>,
    exit: Option<Exit>,
    /// The result of a transfer, or why a program did not begin.
    result: Option<OpResult>,
    outputs: Vec<Output>,
    input: Option<InputFeed>,
}

/// Which descriptor of a command a poll entry represents.
#[derive(Clone, Copy)]
pub(in crate::executor) enum Role {
    Exec,
    Output(usize),
    Input,
}

impl Command {
    pub(in crate::executor) fn new(parts: SpawnedProcess, owner: Arc<Owner>) -> Self {
        let is_awaited = parts.call.kind == CallKind::Command(RunMode::Foreground);
        let ends_late = is_awaited || parts.kind == ProcessKind::Transfer;
        let is_connection = parts.kind == ProcessKind::Connection;
        let slot = is_connection.then(|| owner.slot(parts.slot));
        let outputs = parts.outputs.into_iter().map(|(channel, fd)| {
            // A notice is not delayed, or the bytes that follow it would overtake it.
            let is_notices = parts.kind == ProcessKind::Transfer && channel == StreamId::Error;
            let mut output = Output::new(channel, fd, parts.collect, ends_late, slot);
            output.gathers = !is_notices;
            output
        });
        Self {
            outputs: outputs.collect(),
            input: parts.input.map(|fd| InputFeed::new(fd, parts.input_bytes)),
            call: parts.call,
            owner,
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
        self.kind == ProcessKind::Command { terminal: true }
    }

    /// Whether it is the command of that call.
    pub(in crate::executor) fn is_of(&self, lane: Lane, call: CallId) -> bool {
        (self.call.lane, self.call.id) == (lane, call)
    }

    /// Sets the size of its terminal.
    pub(in crate::executor) fn resize_terminal(&self, window: WindowSize) -> Sys<()> {
        if !self.is_terminal() {
            return Err(Errno(libc::ENOTTY));
        }
        let terminal = self.outputs.iter().find_map(|output| output.fd.as_ref());
        let terminal = terminal.ok_or(Errno::SRCH)?;
        terminal::resize(terminal.as_raw_fd(), window)
    }

    /// What to wait for.
    pub(in crate::executor) fn interests(
        &mut self,
        now: Instant,
        mut add: impl FnMut(RawFd, i16, Role),
    ) {
        if self.look_at_start.is_some_and(|time| now >= time) {
            self.look_at_start = None;
        }
        if let Some(exec) = &self.exec
            && self.look_at_start.is_none()
        {
            add(exec.as_raw_fd(), libc::POLLIN, Role::Exec);
        }
        for (index, output) in self.outputs.iter_mut().enumerate() {
            if output.is_gathering(now) {
                continue;
            }
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
    pub(in crate::executor) fn deadline(&self) -> Option<Instant> {
        let gathering = self.outputs.iter().filter_map(|output| output.gathering);
        let start = self.look_at_start.filter(|_| self.exec.is_some());
        gathering.chain(start).min()
    }

    /// Does what can be done on one descriptor without waiting.
    pub(in crate::executor) fn ready(&mut self, role: Role, calls: &Calls, buffer: &mut [u8]) {
        match role {
            Role::Exec => {
                if self.begun() {
                    let pid = self.pid.unsigned_abs();
                    calls.event(&self.call, &Event::Started { pid });
                }
            }
            Role::Output(index) => {
                if let Some(output) = self.outputs.get_mut(index) {
                    output.pump(calls, &self.call, buffer);
                }
            }
            Role::Input => self.feed(calls),
        }
    }

    /// The program has begun, or could not. Returns whether this is the first report that it has begun.
    fn begun(&mut self) -> bool {
        if self.exec.take().is_none() {
            return false;
        }
        self.result = self.left_result();
        self.owner.release_slot(self.slot, SlotState::Free);
        self.result.is_none()
    }

    /// What the process has left in its slot.
    fn left_result(&self) -> Option<OpResult> {
        let message = self.owner.result_in(self.slot, self.pid)?;
        Some(
            codec::decode(&message)
                .unwrap_or_else(|_| Err(failure::invalid("the result cannot be read"))),
        )
    }

    fn feed(&mut self, calls: &Calls) {
        let Some(feed) = &mut self.input else { return };
        match fd::write(feed.fd.as_raw_fd(), feed.unwritten()) {
            Ok(put) => {
                feed.wrote(put);
                if !feed.is_complete {
                    calls.grant_input(&self.call, put);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The command has closed its input: further bytes are dropped.
            Err(_) => self.input = None,
        }
    }

    /// Closes what is written out.
    fn settle_input(&mut self, calls: &Calls) {
        let terminal = self.is_terminal();
        let Some(feed) = &mut self.input else {
            // A host that still writes must not wait for a reader that does not exist.
            while let Some(Input::Bytes(dropped)) = self.call.try_input() {
                calls.grant_input(&self.call, dropped.len());
            }
            return;
        };
        feed.refill(&self.call);
        // A terminal has no end of its own; the line discipline makes one.
        if feed.is_over() && !(terminal && feed.end_with(END_OF_INPUT)) {
            self.input = None;
        }
    }

    /// The process has ended: takes note how, and how much output it left.
    pub(in crate::executor) fn ended(&mut self, ending: ExitStatus, calls: &Calls) {
        self.call.process_gone();
        if self.begun() && self.call.kind == CallKind::Command(RunMode::Background) {
            let pid = self.pid.unsigned_abs();
            calls.event(&self.call, &Event::Started { pid });
        }
        if !matches!(self.kind, ProcessKind::Command { .. }) {
            let missing = || Err(failure::invalid(format!("its process {ending}")));
            self.result = Some(self.left_result().unwrap_or_else(missing));
            self.owner.release_slot(self.slot, SlotState::Free);
        }
        let (code, signal) = match ending {
            ExitStatus::Exited(code) => (Some(code), None),
            ExitStatus::Signalled(signal) => (None, Some(signal)),
        };
        self.exit = Some(Exit {
            code,
            signal,
            duration_ns: clock::monotonic().saturating_sub(self.started),
        });
        self.input = None;
        let terminal = self.is_terminal();
        for output in &mut self.outputs {
            output.process_ended(terminal);
        }
    }

    /// Moves on as far as possible without waiting; true when the call has been answered.
    pub(in crate::executor) fn settle(&mut self, calls: &Calls) -> bool {
        if self.kind == ProcessKind::Connection && self.is_given_up() {
            self.close_connection();
        }
        self.settle_input(calls);
        let Some(exit) = self.exit else { return false };
        if self.is_terminal() {
            self.drain(calls);
        }
        // The host grants no credit to a call that it has cancelled.
        let given_up = self.is_given_up();
        for output in &mut self.outputs {
            let drained = output.is_drained();
            let stuck = given_up && output.room(&self.call) == 0;
            if output.fd.is_some() && (drained || stuck) {
                output.close(calls, &self.call);
            }
        }
        if self.outputs.iter().any(|output| output.fd.is_some()) {
            return false;
        }
        let result = if self.call.is_cancelled() {
            Err(failure::cancelled())
        } else if let Some(how) = self.owner.death() {
            Err(failure::lane_died(how))
        } else {
            self.reply(exit)
        };
        let mut ends = Vec::new();
        if matches!(self.kind, ProcessKind::Command { .. }) {
            let late = self
                .outputs
                .iter()
                .filter(|output| output.ends_late && output.kept.is_none());
            ends.extend(late.map(|output| output.channel));
        }
        if result.is_ok() && self.call.sends_output {
            ends.push(StreamId::Output);
        }
        calls.finish_streams(&self.call, &ends, result);
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
            feed.end();
        }
    }

    /// Reads what a terminal has left, as far as credit allows. Once the process has been reaped, the
    /// kernel (from 4.7) answers EAGAIN only when the reader has everything that the process wrote.
    fn drain(&mut self, calls: &Calls) {
        let mut buffer = [0; 4096];
        for output in &mut self.outputs {
            while output.fd.is_some() && output.room(&self.call) > 0 {
                output.pump(calls, &self.call, &mut buffer);
            }
        }
    }

    fn reply(&mut self, exit: Exit) -> OpResult {
        let kept: Vec<_> = self
            .outputs
            .iter_mut()
            .filter_map(|output| output.kept.take().map(HeadAndTail::take))
            .collect();
        let result = self.result.take();
        let mut kept = kept.into_iter();
        match (self.kind, result, kept.next()) {
            (ProcessKind::Command { .. } | ProcessKind::Connection, Some(result), _)
            | (ProcessKind::Transfer, Some(result), None) => result,
            (ProcessKind::Transfer, Some(Err(error)), _) => Err(error),
            (ProcessKind::Transfer, _, Some((_, 1..))) => Err(WireError {
                kind: ErrorKind::TooLarge,
                errno: 0,
                message: format!("content of more than {INLINE_LIMIT} bytes"),
            }),
            (ProcessKind::Transfer, _, Some((bytes, 0))) => Ok(Reply::Bytes(bytes.into())),
            (ProcessKind::Command { .. }, None, Some((stdout, stdout_dropped))) => {
                let (stderr, stderr_dropped) = kept.next().unwrap_or_default();
                Ok(Reply::Ran {
                    exit,
                    stdout: stdout.into(),
                    stderr: stderr.into(),
                    stdout_dropped,
                    stderr_dropped,
                })
            }
            // Its end has stored a result.
            (ProcessKind::Connection, None, _) => {
                Err(failure::invalid("its process left no result"))
            }
            (_, None, None) => Ok(Reply::Exited(exit)),
        }
    }
}
