//! The executor, its open calls, and former executors that have still to end.

use super::effect::Effect;
use super::executor::{self, EXIT_GRACE, Executor, OpenCall};
use crate::executor::{Numbers, Root};
use crate::failure;
use crate::sys::{process, signal};
use provium_protocol::frame::{HEADER_LEN, MAX_PAYLOAD};
use provium_protocol::{CallId, Frame, FrameKind, Lane};
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::time::Instant;

pub(super) struct Executors {
    root: Root,
    current: Option<Executor>,
    /// The number of those that have been started.
    started: u32,
    /// Why the last one could not be started.
    start_error: String,
    /// Requests that arrive in several frames.
    partial: BTreeMap<(Lane, CallId), PartialRequest>,
    /// Former executors, and when they are killed if they have not ended.
    terminating: BTreeMap<i32, Instant>,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartialRequest {
    Forwarded,
    /// It has been answered already, since its executor ended or there is none.
    Void,
}

/// What an executor has sent.
pub(super) enum ExecutorMessage<'a> {
    Nothing,
    /// A part of a message of this call; `more` is to follow.
    Frame {
        call: (Lane, CallId),
        more: bool,
        /// Encoded; `None` if the host does not wait for it any more.
        bytes: Option<&'a [u8]>,
    },
    /// It has ended.
    End,
}

impl Executors {
    /// Without an executor.
    pub(super) fn new(root: Root) -> Self {
        Self {
            root,
            current: None,
            started: 0,
            start_error: String::new(),
            partial: BTreeMap::new(),
            terminating: BTreeMap::new(),
            buffer: vec![0; HEADER_LEN + MAX_PAYLOAD],
        }
    }

    /// Starts an executor, unless there is one.
    pub(super) fn start(&mut self) {
        if self.current.is_some() {
            return;
        }
        let numbers = Numbers::of_executor(self.started);
        self.started += 1;
        match Executor::fork(self.root, numbers) {
            Ok(executor) => self.current = Some(executor),
            Err(errno) => self.start_error = format!("could not be started: {errno}"),
        }
    }

    /// Ends the executor with everything that it has started. Its calls are not answered.
    pub(super) fn dismiss(&mut self) {
        self.partial.clear();
        if let Some(mut executor) = self.current.take() {
            executor.dismiss();
            self.terminating
                .insert(executor.pid, Instant::now() + EXIT_GRACE);
        }
    }

    /// Forgets the requests that have arrived in part.
    pub(super) fn reset(&mut self) {
        self.partial.clear();
    }

    /// The executor's socket and the events to poll it for; `receives`: also for what it sends.
    pub(super) fn interest(&self, receives: bool) -> Option<(RawFd, i16)> {
        let executor = self.current.as_ref()?;
        let reading = if receives { libc::POLLIN } else { 0 };
        let writing = if executor.has_queued() {
            libc::POLLOUT
        } else {
            0
        };
        (reading | writing != 0).then(|| (executor.fd(), reading | writing))
    }

    /// When the next former executor is killed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.terminating.values().copied().min()
    }

    pub(super) fn check_deadlines(&mut self, now: Instant) {
        self.terminating.retain(|pid, until| {
            if now < *until {
                return true;
            }
            let _ = signal::send(*pid, libc::SIGKILL, false);
            false
        });
    }

    pub(super) fn on_request(&mut self, frame: &Frame, effects: &mut Vec<Effect>) {
        let key = (frame.lane, frame.call);
        let before = self.partial.remove(&key);
        let executor = match (before, &mut self.current) {
            (Some(PartialRequest::Void), _) => None,
            (_, Some(executor)) => Some(executor),
            (_, None) => {
                let error = failure::lane_died(&self.start_error);
                effects.push(Effect::Reply(frame.lane, frame.call, Err(error)));
                None
            }
        };
        if frame.more {
            let now = match executor {
                Some(_) => PartialRequest::Forwarded,
                None => PartialRequest::Void,
            };
            self.partial.insert(key, now);
        }
        if let Some(executor) = executor {
            if before.is_none() {
                executor.calls.insert(key, OpenCall::default());
            }
            executor.send(frame);
        }
    }

    pub(super) fn on_cancel(&mut self, frame: &Frame) {
        if let Some(executor) = &mut self.current
            && let Some(call) = executor.calls.get_mut(&(frame.lane, frame.call))
            && !call.cancelled
        {
            call.cancelled = true;
            executor.send(frame);
        }
    }

    /// Passes on a frame of a call's input, or its credit.
    pub(super) fn on_stream(&mut self, frame: &Frame) {
        if let Some(executor) = &mut self.current
            && executor.calls.contains_key(&(frame.lane, frame.call))
        {
            executor.send(frame);
        }
    }

    pub(super) fn flush(&mut self) {
        if let Some(executor) = &mut self.current {
            executor.flush();
        }
    }

    /// Receives one packet.
    pub(super) fn receive(&mut self, effects: &mut Vec<Effect>) -> ExecutorMessage<'_> {
        let Some(executor) = &mut self.current else {
            return ExecutorMessage::Nothing;
        };
        let Some(len) = executor.receive(&mut self.buffer).map(<[u8]>::len) else {
            return ExecutorMessage::Nothing;
        };
        let Some(header) = executor::read_header(&self.buffer[..len]) else {
            self.kill("sent an invalid packet and was killed", effects);
            return ExecutorMessage::End;
        };
        let call = (header.lane, header.call);
        let known = executor.calls.contains_key(&call);
        if header.kind == FrameKind::Reply && !header.more {
            executor.calls.remove(&call);
        }
        let bytes = &self.buffer[..len];
        if known && header.kind == FrameKind::Event {
            executor.note_process(call, &bytes[HEADER_LEN..]);
        }
        ExecutorMessage::Frame {
            call,
            more: header.more,
            bytes: known.then_some(bytes),
        }
    }

    /// The process id of the executor.
    pub(super) fn pid(&self) -> Option<i32> {
        self.current.as_ref().map(|executor| executor.pid)
    }

    /// Kills the executor, which `how` describes.
    pub(super) fn kill(&mut self, how: &str, effects: &mut Vec<Effect>) {
        if let Some(pid) = self.pid() {
            let _ = signal::send(pid, libc::SIGKILL, false);
            self.on_end(how, effects);
        }
    }

    /// Continues an executor that a command has stopped: that would stop everything.
    pub(super) fn continue_stopped(&self) {
        if let Some(pid) = self.pid()
            && process::has_stopped(pid)
        {
            let _ = signal::send(pid, libc::SIGCONT, false);
        }
    }

    /// A former executor has ended.
    pub(super) fn on_exit_of_other(&mut self, pid: i32) {
        self.terminating.remove(&pid);
    }

    /// The executor has ended: answers its open calls and starts another one.
    pub(super) fn on_end(&mut self, how: &str, effects: &mut Vec<Effect>) {
        let Some(executor) = self.current.take() else {
            return;
        };
        for partial in self.partial.values_mut() {
            *partial = PartialRequest::Void;
        }
        effects.push(Effect::ExecutorEnded);
        for ((lane, id), call) in executor.calls {
            call.kill_process();
            let error = if call.cancelled {
                failure::cancelled()
            } else {
                failure::lane_died(how)
            };
            effects.push(Effect::Reply(lane, id, Err(error)));
        }
        self.start();
    }
}
