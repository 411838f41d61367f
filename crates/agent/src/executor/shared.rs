//! What the threads of an executor share: the calls, the jobs, the way back to the router.

use super::call::{Call, lock};
use super::job::{Job, Started};
use crate::failure::OpResult;
use crate::roots;
use crate::sys::packet::{self, Waiting};
use crate::sys::{Errno, Sys, fd, process, signal};
use provium_protocol::frame::MAX_PAYLOAD;
use provium_protocol::{CallId, Channel, Event, Frame, FrameKind, Lane, Reply, codec};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

pub(crate) struct Shared {
    pub(crate) lane: Lane,
    /// Whether raw syscalls may be made here.
    pub(super) raw: bool,
    calls: Mutex<BTreeMap<CallId, Arc<Call>>>,
    jobs: Mutex<VecDeque<Job>>,
    job_came: Condvar,
    started: Mutex<Vec<Started>>,
    background: Mutex<Background>,
    /// Held while a command is started, until it can be signalled.
    pub(super) starting: Mutex<()>,
    wake: OwnedFd,
}

/// Commands of the `run_async` family since the last join.
#[derive(Default)]
struct Background {
    running: u32,
    ran: u32,
    worst: i32,
    joining: Vec<Arc<Call>>,
}

impl Shared {
    pub(super) fn new(lane: Lane) -> Sys<Self> {
        Ok(Self {
            lane,
            raw: lane != Lane::COMMANDS,
            calls: Mutex::default(),
            jobs: Mutex::default(),
            job_came: Condvar::new(),
            started: Mutex::default(),
            background: Mutex::default(),
            starting: Mutex::default(),
            wake: fd::move_up(fd::eventfd()?, roots::FIRST_FREE),
        })
    }

    /// Keeps a descriptor out of the way of those that a test's files get.
    pub(super) fn tuck_away(&self, fd: OwnedFd) -> OwnedFd {
        if self.raw {
            fd::move_up(fd, roots::FIRST_FREE)
        } else {
            fd
        }
    }

    // Calls.

    /// Takes a call in; false when its id is in use.
    pub(super) fn open(&self, call: &Arc<Call>) -> bool {
        if let Entry::Vacant(room) = lock(&self.calls).entry(call.id) {
            room.insert(Arc::clone(call));
        } else {
            return false;
        }
        if call.background {
            let mut background = lock(&self.background);
            background.running += 1;
            background.ran += 1;
        }
        true
    }

    pub(super) fn call(&self, id: CallId) -> Option<Arc<Call>> {
        lock(&self.calls).get(&id).cloned()
    }

    pub(super) fn background_calls(&self) -> Vec<Arc<Call>> {
        lock(&self.calls)
            .values()
            .filter(|call| call.background)
            .cloned()
            .collect()
    }

    /// All commands and others that are open.
    pub(super) fn all_calls(&self) -> Vec<Arc<Call>> {
        lock(&self.calls).values().cloned().collect()
    }

    /// Answers a call, unless that has been done.
    pub(crate) fn finish(&self, call: &Call, result: OpResult) {
        if lock(&self.calls).remove(&call.id).is_none() {
            return;
        }
        call.set_answered();
        self.message(FrameKind::Reply, call.id, &codec::encode(&result));
        if call.background {
            self.background_ended(&result);
        }
    }

    fn background_ended(&self, result: &OpResult) {
        let code = match result {
            Ok(Reply::Exited(exit) | Reply::Ran { exit, .. }) => exit
                .signal
                .map_or(exit.code.unwrap_or(0), |signal| 128 + signal),
            _ => 0,
        };
        let mut background = lock(&self.background);
        background.running -= 1;
        if result.is_err() {
            // It never ran, or was called off.
            background.ran = background.ran.saturating_sub(1);
        }
        background.worst = background.worst.max(code);
        self.answer_joins(&mut background);
    }

    /// Answers `call` once no background command runs.
    pub(super) fn join(&self, call: Arc<Call>) {
        let mut background = lock(&self.background);
        background.joining.push(call);
        self.answer_joins(&mut background);
    }

    /// Takes a join back that is not answered yet.
    pub(super) fn withdraw_join(&self, call: &Call) -> bool {
        let mut background = lock(&self.background);
        let before = background.joining.len();
        background.joining.retain(|joining| joining.id != call.id);
        background.joining.len() < before
    }

    fn answer_joins(&self, background: &mut Background) {
        if background.running > 0 || background.joining.is_empty() {
            return;
        }
        let summary = Reply::Joined {
            exit_code: background.worst,
            children: background.ran,
        };
        for call in std::mem::take(&mut background.joining) {
            self.finish(&call, Ok(summary.clone()));
        }
        *background = Background::default();
    }

    // Jobs, from the I/O thread to the main thread.

    pub(super) fn push_job(&self, job: Job) {
        lock(&self.jobs).push_back(job);
        self.job_came.notify_one();
    }

    /// Takes a job back that has not begun.
    pub(super) fn withdraw_job(&self, call: &Call) -> bool {
        let mut jobs = lock(&self.jobs);
        let before = jobs.len();
        jobs.retain(|job| job.call.id != call.id);
        jobs.len() < before
    }

    pub(super) fn next_job(&self) -> Job {
        let mut jobs = lock(&self.jobs);
        loop {
            match jobs.pop_front() {
                Some(job) => return job,
                None => {
                    jobs = self
                        .job_came
                        .wait(jobs)
                        .unwrap_or_else(PoisonError::into_inner)
                }
            }
        }
    }

    // Commands, from the main thread to the I/O thread.

    pub(super) fn hand_over(&self, command: Started) {
        lock(&self.started).push(command);
        self.wake();
    }

    pub(super) fn take_started(&self) -> Vec<Started> {
        std::mem::take(&mut lock(&self.started))
    }

    pub(super) fn wake(&self) {
        let _ = fd::write(self.wake.as_raw_fd(), &1_u64.to_ne_bytes());
    }

    pub(super) fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    // Packets to the router. Any thread sends them, and waits while the socket is full.

    fn send(&self, frame: &Frame, payload: &[u8]) {
        let header = frame.header(payload.len());
        loop {
            match packet::send(roots::SOCKET, [&header, payload], None, Waiting::Blocks) {
                Err(Errno::INTR) => {}
                Ok(()) => return,
                // The router is gone, or a test closed the socket: there is no way back.
                Err(_) => self.quit(),
            }
        }
    }

    /// Sends a message, cut into frames.
    pub(crate) fn message(&self, kind: FrameKind, call: CallId, message: &[u8]) {
        let mut frame = Frame::new(kind, self.lane, call, Vec::new());
        let mut rest = message;
        loop {
            let (now, later) = rest.split_at(rest.len().min(MAX_PAYLOAD));
            frame.more = !later.is_empty();
            self.send(&frame, now);
            if later.is_empty() {
                return;
            }
            rest = later;
        }
    }

    pub(crate) fn event(&self, call: &Call, event: &Event) {
        self.message(FrameKind::Event, call.id, &codec::encode(event));
    }

    /// Sends bytes, at most a frame's worth, and takes them off the credit.
    pub(crate) fn data(&self, call: &Call, channel: Channel, bytes: &[u8]) {
        call.spend(channel, bytes.len());
        if !call.is_answered() {
            self.send(&Frame::data(self.lane, call.id, channel, Vec::new()), bytes);
        }
    }

    pub(crate) fn end(&self, call: &Call, channel: Channel) {
        if call.is_answered() {
            return;
        }
        self.send(&Frame::end(self.lane, call.id, channel), &[]);
    }

    /// Lets the host send as much more input as was used up.
    pub(crate) fn grant_input(&self, call: &Call, bytes: usize) {
        if bytes == 0 || call.input_ended() || call.is_answered() {
            return;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let frame = Frame::credit(self.lane, call.id, Channel::Input, bytes);
        self.send(&frame, &frame.payload);
    }

    /// Ends the process, and the commands it runs.
    pub(super) fn quit(&self) -> ! {
        let _nothing_starts = lock(&self.starting);
        self.kill_commands();
        process::exit(0)
    }

    /// Ends the process although its main thread cannot be reached.
    pub(super) fn give_up(&self) {
        self.kill_commands();
        let _ = signal::send(process::id(), libc::SIGKILL, false);
    }

    fn kill_commands(&self) {
        for call in self.all_calls() {
            let _ = call.signal(libc::SIGKILL, true);
        }
    }

    /// Whether the main thread works on the call.
    pub(super) fn is_on_main_thread(&self, call: &Call) -> bool {
        // The first thread of a process has the number of the process.
        call.thread() == process::id()
    }
}
