//! The requests of an owner to its raw process.
//!
//! One request is posted at a time. A raw call with large buffers takes several: map, call, unmap. Long
//! because every kind of request is started and completed here, next to each other.

use super::call::Call;
use super::layout::Layout;
use super::owner::{Action, FORK_BESIDE_AFTER, Job, Life, NOTIFY_AFTER, Owner, State};
use super::root::Root;
use super::shared::Shared;
use super::tree::Stray;
use super::workers;
use crate::failure::{self, OpResult};
use crate::roots;
use crate::sys::area::{BUFFERS, Code, WOULD_WAIT, thread_state};
use crate::sys::slot::SlotState;
use crate::sys::{Errno, Sys, file, memory, process, raw};
use provium_protocol::op::{Buffer, Syscall};
use provium_protocol::{Descriptor, Event, Op, Reply};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const PAGE: usize = 4096;

/// A request that the raw process works on.
#[derive(Debug)]
pub(super) struct Posted {
    step: Step,
    pub(super) since: Instant,
    /// The caller was informed that it waits.
    informed: bool,
}

#[derive(Debug)]
enum Step {
    /// Memory for the call that follows.
    Map(RawCall),
    Call(RawCall),
    Unmap,
    Thread {
        index: usize,
        call: RawCall,
    },
    /// Memory for the payload that follows.
    Load {
        slot: usize,
        payload: Vec<u8>,
    },
    Fork {
        slot: usize,
    },
    Worker {
        slot: usize,
    },
    Open {
        call: Arc<Call>,
        path: Vec<u8>,
        flags: i32,
        perm: u32,
    },
    Close {
        call: Arc<Call>,
    },
    Root(#[expect(dead_code, reason = "open until the raw process has taken it")] OwnedFd),
}

/// A raw call and its buffers.
#[derive(Debug)]
pub(super) struct RawCall {
    call: Arc<Call>,
    request: Syscall,
    layout: Layout,
    /// Where its buffers are; `None`: in the area.
    region: Option<u64>,
    /// The result is a file that was opened.
    opens: bool,
}

/// An asynchronous raw call.
#[derive(Debug)]
pub(super) struct ThreadUse {
    pub(super) call: Arc<Call>,
    pub(super) tid: i32,
    raw: RawCall,
}

impl ThreadUse {
    pub(super) fn executes(&self) -> bool {
        raw::executes(self.raw.request.nr)
    }
}

impl Posted {
    /// Whether the raw process is in a raw call (or opening or closing) of this call.
    pub(super) fn is_of(&self, call: &Call) -> bool {
        let of = match &self.step {
            Step::Map(raw) | Step::Call(raw) => &raw.call,
            Step::Open { call, .. } | Step::Close { call } => call,
            _ => return false,
        };
        of.id == call.id
    }

    /// Whether its caller wants to be informed that it waits.
    pub(super) fn keeps_waiting(&self) -> bool {
        matches!(self.step, Step::Map(_) | Step::Thread { .. }) && !self.informed
    }

    /// The slot of the process that the raw process forks.
    pub(super) fn slot(&self) -> Option<usize> {
        match self.step {
            Step::Load { slot, .. } | Step::Fork { slot } | Step::Worker { slot } => Some(slot),
            _ => None,
        }
    }

    /// How long operations wait for it. What makes processes does not block; but it may be stopped.
    pub(super) fn relief_after(&self) -> Duration {
        match self.step {
            Step::Call(_) | Step::Open { .. } | Step::Close { .. } => FORK_BESIDE_AFTER,
            _ => NOTIFY_AFTER,
        }
    }

    pub(super) fn is_raw_call(&self) -> bool {
        matches!(self.step, Step::Call(_))
    }

    pub(super) fn executes(&self) -> bool {
        matches!(&self.step, Step::Call(raw) if raw::executes(raw.request.nr))
    }
}

impl Owner {
    fn post(&self, state: &mut State, step: Step, code: Code, arguments: &[i64]) {
        state.posted = Some(Posted {
            step,
            since: Instant::now(),
            informed: false,
        });
        self.area.post(code, arguments);
    }

    pub(super) fn raw_pid(state: &State) -> Option<i32> {
        match state.life {
            Life::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }

    pub(super) fn is_foreign(state: &State) -> bool {
        matches!(
            state.life,
            Life::Running {
                reaper: Some(_),
                ..
            }
        )
    }

    // Completing requests.

    /// Continues with a request that was answered.
    pub(super) fn complete(self: &Arc<Self>, shared: &Arc<Shared>, state: &mut State) {
        while state.posted.is_some()
            && let Some(result) = self.area.reply()
            && let Some(posted) = state.posted.take()
        {
            self.completed(shared, state, posted.step, result);
        }
    }

    fn completed(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        state: &mut State,
        step: Step,
        result: i64,
    ) {
        match step {
            Step::Map(mut raw) => match address(result) {
                Ok(address) => {
                    raw.region = Some(address);
                    self.make_call(state, raw);
                }
                Err(errno) => {
                    let error = failure::os("map buffers", errno);
                    state.finish(raw.call, Err(error));
                }
            },
            Step::Call(raw) => self.call_returned(state, raw, result),
            Step::Unmap | Step::Root(_) => {}
            Step::Thread { index, call } => self.thread_started(state, index, call, result),
            Step::Load { slot, payload } => {
                let written = address(result).and_then(|address| {
                    let pid = Self::raw_pid(state).ok_or(Errno::SRCH)?;
                    memory::write_of(pid, address, &payload)?;
                    Ok(address)
                });
                match written {
                    Ok(address) => {
                        let arguments = [
                            number(slot),
                            state.ticket_of(slot).number(),
                            address.cast_signed(),
                            number(payload.len()),
                        ];
                        self.post(state, Step::Fork { slot }, Code::Fork, &arguments);
                    }
                    Err(errno) => {
                        shared.end_fork();
                        self.fail_slot(state, slot, failure::os("start a process", errno));
                    }
                }
            }
            Step::Fork { slot } | Step::Worker { slot } => {
                self.forked(shared, state, slot, result);
                shared.end_fork();
            }
            Step::Open {
                call,
                path,
                flags,
                perm,
            } => {
                if result == WOULD_WAIT {
                    return self.open_on_thread(state, call, path, flags, perm);
                }
                if result == -i64::from(libc::EINTR) && !call.is_cancelled() {
                    return self.post_open(state, call, path, flags, perm);
                }
                self.opened(state, call, result);
            }
            Step::Close { call } => {
                let result = match address(result) {
                    Ok(_) => Ok(Reply::Done),
                    Err(errno) => Err(failure::os("close", errno)),
                };
                state.finish(call, result);
            }
        }
    }

    fn opened(&self, state: &mut State, call: Arc<Call>, result: i64) {
        let generation = state.generation;
        let result = match address(result) {
            Ok(number) => Ok(Reply::Opened(Descriptor {
                number: i32::try_from(number).unwrap_or(-1),
                generation,
            })),
            Err(Errno::INTR) if call.is_cancelled() => Err(failure::cancelled()),
            Err(errno) => Err(failure::os("open", errno)),
        };
        state.finish(call, result);
    }

    fn call_returned(&self, state: &mut State, raw: RawCall, result: i64) {
        self.note_effects(state, &raw.request, result);
        let reply = self.reply_of(state, &raw, result);
        if let Some(region) = raw.region {
            state.unmap.push(region);
        }
        state.finish(raw.call, reply);
    }

    fn reply_of(&self, state: &State, raw: &RawCall, result: i64) -> OpResult {
        if result == -i64::from(libc::EINTR) && raw.call.is_cancelled() {
            return Err(failure::cancelled());
        }
        let pid = Self::raw_pid(state);
        Ok(raw.layout.reply(&raw.request, result, |start, len| {
            match (raw.region, pid) {
                (None, _) => self.area.get_buffer(start, len),
                // What the call has unmapped is gone, and reads as zero.
                (Some(region), Some(pid)) => memory::read_of(pid, region + start as u64, len)
                    .unwrap_or_else(|_| vec![0; len]),
                (Some(_), None) => vec![0; len],
            }
        }))
    }

    /// Updates the state that later operations need after a raw call has changed it.
    fn note_effects(&self, state: &mut State, request: &Syscall, result: i64) {
        if result > 0
            && raw::forks(request.nr)
            && let Ok(pid) = i32::try_from(result)
            && let Some(child) = Stray::of(pid)
            && !Self::is_foreign(state)
        {
            state.strays.push(child);
        }
        let changes = [libc::SYS_unshare, libc::SYS_setns].contains(&request.nr);
        if result == 0
            && changes
            && let Some(pid) = Self::raw_pid(state)
        {
            let link = |name: &str| {
                file::read_link_at(
                    roots::PROC,
                    &file::path(format!("{pid}/ns/{name}").as_bytes())?,
                )
            };
            state.odd_children = link("pid") != link("pid_for_children");
        }
    }

    // Raw calls.

    fn begin_call(&self, state: &mut State, call: Arc<Call>, request: Syscall, opens: bool) {
        let layout = match Layout::of(&request) {
            Ok(layout) => layout,
            Err(error) => return state.finish(call, Err(error)),
        };
        let own_region = request.background || layout.len > BUFFERS || layout.align > PAGE;
        let (len, align) = (layout.len, layout.align);
        let raw = RawCall {
            call,
            request,
            layout,
            region: None,
            opens,
        };
        // Without buffers there is nothing to map.
        if own_region && len > 0 {
            let arguments = [number(len), number(align)];
            return self.post(state, Step::Map(raw), Code::Map, &arguments);
        }
        self.make_call(state, raw);
    }

    /// Handles the reply to a request for memory.
    fn make_call(&self, state: &mut State, mut raw: RawCall) {
        let area = self.area;
        let base = raw.region.unwrap_or(area.buffers());
        let placed = match (raw.region, Self::raw_pid(state)) {
            (None, _) => {
                area.clear_buffers(raw.layout.len.min(BUFFERS));
                raw.layout.place(&raw.request, base, |offset, bytes| {
                    area.put_buffer(offset, bytes)
                })
            }
            (Some(_), Some(pid)) => raw.layout.place(&raw.request, base, |offset, bytes| {
                memory::write_of(pid, base + offset as u64, bytes)
            }),
            (Some(_), None) => Err(failure::os("place a buffer", Errno::SRCH)),
        };
        if let Err(error) = placed {
            state.unmap.extend(raw.region);
            return state.finish(raw.call, Err(error));
        }
        for buffer in &mut raw.request.buffers {
            buffer.content = Vec::new();
        }
        let arguments = raw.layout.arguments(&raw.request, base);
        if !raw.request.background {
            return self.post(state, Step::Call(raw), Code::Call, &arguments);
        }
        let Some(index) = self.new_thread(state) else {
            state.unmap.extend(raw.region);
            let error = failure::os("start a thread", Errno::AGAIN);
            return state.finish(raw.call, Err(error));
        };
        let cell = area.thread(index);
        cell.nr.store(arguments[0], Ordering::Relaxed);
        for (to, from) in cell.arguments.iter().zip(&arguments[1..]) {
            to.store(*from, Ordering::Relaxed);
        }
        let step = Step::Thread { index, call: raw };
        self.post(state, step, Code::Thread, &[number(index)]);
    }

    fn thread_started(&self, state: &mut State, index: usize, raw: RawCall, result: i64) {
        match address(result) {
            Ok(tid) => {
                let tid = i32::try_from(tid).unwrap_or(0);
                let call = Arc::clone(&raw.call);
                if !raw.opens {
                    let event = Event::Entered {
                        tid: tid.unsigned_abs(),
                    };
                    state.actions.push(Action::Notify(Arc::clone(&call), event));
                }
                state.threads.insert(index, ThreadUse { call, tid, raw });
            }
            Err(errno) => {
                state.unmap.extend(raw.region);
                let why = if state.odd_children {
                    "start a thread: children of the raw process are in another pid namespace"
                } else {
                    "start a thread"
                };
                state.finish(raw.call, Err(failure::os(why, errno)));
            }
        }
    }

    pub(super) fn look_at_threads(&self, state: &mut State) {
        let done: Vec<usize> = state
            .threads
            .keys()
            .copied()
            .filter(|index| {
                self.area.thread(*index).state.load(Ordering::Acquire) == thread_state::DONE
            })
            .collect();
        for index in done {
            let Some(thread) = state.threads.remove(&index) else {
                continue;
            };
            let cell = self.area.thread(index);
            let result = cell.result.load(Ordering::Relaxed);
            cell.state.store(thread_state::FREE, Ordering::Release);
            if thread.raw.opens {
                state.unmap.extend(thread.raw.region);
                self.opened(state, thread.raw.call, result);
            } else {
                self.call_returned(state, thread.raw, result);
            }
        }
    }

    // Opening and closing.

    fn post_open(&self, state: &mut State, call: Arc<Call>, path: Vec<u8>, flags: i32, perm: u32) {
        let mut terminated = path.clone();
        terminated.push(0);
        if path.contains(&0) || !self.area.put_payload(&terminated) {
            let error = failure::os("open", Errno::INVAL);
            return state.finish(call, Err(error));
        }
        let arguments = [
            self.area.payload().cast_signed(),
            i64::from(flags),
            i64::from(perm),
        ];
        let step = Step::Open {
            call,
            path,
            flags,
            perm,
        };
        self.post(state, step, Code::Open, &arguments);
    }

    /// Opening it may block on another process, so a separate thread opens it.
    fn open_on_thread(
        &self,
        state: &mut State,
        call: Arc<Call>,
        mut path: Vec<u8>,
        flags: i32,
        perm: u32,
    ) {
        path.push(0);
        let flags = flags | libc::O_CLOEXEC | libc::O_NOCTTY;
        let request = Syscall {
            nr: libc::SYS_openat,
            args: [
                i64::from(libc::AT_FDCWD),
                0,
                i64::from(flags),
                i64::from(perm),
                0,
                0,
            ],
            buffers: vec![Buffer {
                len: path.len() as u64,
                content: path,
                align: 16,
                returned: false,
            }],
            pointers: vec![1],
            nested: Vec::new(),
            background: true,
        };
        self.begin_call(state, call, request, true);
    }

    fn close_descriptor(&self, state: &mut State, call: Arc<Call>, fd: Descriptor) {
        if fd.generation != 0 && fd.generation != state.generation {
            // It went with its process.
            return state.finish(call, Ok(Reply::Done));
        }
        let arguments = [libc::SYS_close, i64::from(fd.number), 0, 0, 0, 0, 0];
        self.post(state, Step::Close { call }, Code::Call, &arguments);
    }

    // Operations.

    /// Posts the next request; returns false if there is none, or if the raw process is busy.
    pub(super) fn post_next(self: &Arc<Self>, shared: &Arc<Shared>, state: &mut State) -> bool {
        if state.posted.is_some() || !matches!(state.life, Life::Running { .. }) {
            return false;
        }
        if let Some(region) = state.unmap.pop() {
            self.post(state, Step::Unmap, Code::Unmap, &[region.cast_signed()]);
            return true;
        }
        let next = state.operations.front().or(state.exact.front());
        if next.is_some_and(|job| job.op.resolves_path()) && state.root.has_moved() {
            shared.follow_root();
            if let Some(folder) = Root::enter() {
                let arguments = [i64::from(process::id()), i64::from(folder.as_raw_fd())];
                self.post(state, Step::Root(folder), Code::Root, &arguments);
                return true;
            }
        }
        if let Some(job) = state.operations.pop_front() {
            if state.odd_children && !matches!(job.op, Op::Exec(_)) {
                self.fork_beside(shared, state, job);
            } else {
                self.fork_operation(shared, state, job);
            }
            return true;
        }
        let Some(Job { call, op }) = state.exact.pop_front() else {
            return false;
        };
        if call.is_cancelled() {
            state.finish(call, Err(failure::cancelled()));
            return true;
        }
        match op {
            Op::Syscall(request) => self.begin_call(state, call, request, false),
            Op::Open { path, flags, perm } => self.post_open(state, call, path, flags, perm),
            Op::CloseFd { fd } => self.close_descriptor(state, call, fd),
            Op::SpawnWorker(spec) => self.fork_worker(shared, state, call, &spec),
            // The class of every other operation is another.
            _ => state.finish(
                call,
                Err(failure::invalid("not an operation of the raw process")),
            ),
        }
        true
    }

    /// Takes operations from a busy raw process, and informs the callers that wait for it.
    pub(super) fn relieve(self: &Arc<Self>, shared: &Arc<Shared>, state: &mut State) {
        let (waited, limit) = match &state.posted {
            Some(posted) => (posted.since.elapsed(), posted.relief_after()),
            None => return,
        };
        if waited < limit || !matches!(state.life, Life::Running { .. }) {
            return;
        }
        while let Some(job) = state.operations.pop_front() {
            self.fork_beside(shared, state, job);
        }
        if waited < NOTIFY_AFTER {
            return;
        }
        if let Some(posted) = &mut state.posted
            && !posted.informed
        {
            posted.informed = true;
            let waiting = match &posted.step {
                Step::Map(raw) | Step::Thread { call: raw, .. } => Some(Arc::clone(&raw.call)),
                _ => None,
            };
            state
                .actions
                .extend(waiting.map(|call| Action::Notify(call, Event::Waiting)));
        }
        for job in &mut state.exact {
            if let Op::Syscall(request) = &job.op
                && request.background
                && job.call.set_informed()
            {
                let call = Arc::clone(&job.call);
                state.actions.push(Action::Notify(call, Event::Waiting));
            }
        }
    }

    /// The raw process has ended: its requests fail, or start again with the next raw process.
    pub(super) fn abandon_posted(self: &Arc<Self>, shared: &Shared, state: &mut State, how: &str) {
        self.area.withdraw();
        if let Some(posted) = state.posted.take() {
            match posted.step {
                Step::Map(raw) | Step::Call(raw) | Step::Thread { call: raw, .. } => {
                    state.fail(raw.call, how);
                }
                Step::Open { call, .. } | Step::Close { call } => state.fail(call, how),
                Step::Load { .. } | Step::Fork { .. } | Step::Worker { .. } => shared.end_fork(),
                Step::Unmap | Step::Root(_) => {}
            }
        }
        // A process that was not reported, or has not started its work, is too late from now on.
        let unknown: Vec<usize> = state
            .slots
            .iter()
            .filter(|(_, used)| used.pid.is_none() && !used.handed_over)
            .map(|(index, _)| *index)
            .collect();
        for index in unknown {
            let begun = self.area.slot(index).get() != SlotState::Expected;
            self.abort_slot(state, index);
            let Some(used) = state.slots.remove(&index) else {
                continue;
            };
            if let Some(worker) = used.worker {
                workers::give_back(worker.area.index);
            }
            match used.op {
                Some(op) if !begun && self.lane < provium_protocol::Lane::FIRST_WORKER => {
                    state.operations.push_front(Job {
                        call: used.call,
                        op,
                    });
                }
                _ => state.fail(used.call, how),
            }
        }
    }
}

impl Owner {
    /// Has an operation process forked.
    pub(super) fn post_fork(&self, state: &mut State, slot: usize, payload: Vec<u8>) {
        let len = number(payload.len());
        if self.area.put_payload(&payload) {
            let address = self.area.payload().cast_signed();
            let ticket = state.ticket_of(slot).number();
            let arguments = [number(slot), ticket, address, len];
            self.post(state, Step::Fork { slot }, Code::Fork, &arguments);
        } else {
            self.post(state, Step::Load { slot, payload }, Code::Load, &[len]);
        }
    }

    /// Has a worker forked.
    pub(super) fn post_worker(
        &self,
        state: &mut State,
        slot: usize,
        code: Code,
        arguments: &[i64],
    ) {
        self.post(state, Step::Worker { slot }, code, arguments);
    }
}

/// What a request returned: a number, or an errno.
pub(super) fn address(result: i64) -> Sys<u64> {
    if (-4095..0).contains(&result) {
        return Err(Errno(i32::try_from(-result).unwrap_or(libc::EIO)));
    }
    Ok(result.cast_unsigned())
}

pub(super) fn number(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
