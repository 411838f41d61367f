//! The main thread: takes frames in, tends pipes, collects children, cancels.

use super::batch::Batch;
use super::call::{Asker, Call};
use super::command::{Command, Kind, Role};
use super::owner::{Job, Owner};
use super::shared::{Child, Shared};
use super::table::Table;
use crate::failure::{self, OpResult};
use crate::ops::clock;
use crate::roots;
use crate::sys::packet::{self, Waiting};
use crate::sys::signal::SignalStream;
use crate::sys::{Errno, fd, memory, process};
use provium_protocol::frame::{Assembler, HEADER_LEN, INITIAL_WINDOW, Item, MAX_PAYLOAD};
use provium_protocol::op::SignalTarget;
use provium_protocol::{CallId, Event, Frame, FrameDecoder, FrameKind, Lane, Op, Reply, codec};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Interval of the signals to a thread that has to stop waiting.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(20);
/// How long it may take to stop.
const GRACE: Duration = Duration::from_secs(2);
/// How long a worker may take to end.
const END: Duration = Duration::from_secs(5);
/// The most of a raw process's memory that is read at a time.
const MEMORY_LIMIT: u64 = 64 * 1024 * 1024;

/// How the request for a command begins.
const COMMAND: &[u8] = b"\x81\xa4Exec";
/// Arguments, environment and short input of a command.
const COMMAND_LIMIT: usize = 8 * 1024 * 1024;

/// A request that arrives in several frames.
#[derive(Default)]
struct Request {
    parts: Assembler,
    size: usize,
    limit: Option<usize>,
    /// It was answered; the rest of it is dropped.
    refused: bool,
}

pub(super) struct IoLoop {
    shared: Arc<Shared>,
    children: SignalStream,
    commands: Vec<Command>,
    requests: Table<(Lane, CallId), Request>,
    /// Calls whose job is given out when their input is complete, or fills the window.
    gathering: Table<(Lane, CallId), Op>,
    cancelling: Vec<(Arc<Call>, Instant)>,
    /// Closings of workers.
    ending: Vec<(Arc<Call>, Arc<Owner>, Instant)>,
    sleeping: Vec<(Arc<Call>, Instant)>,
    batches: Vec<(Arc<Call>, Arc<Batch>)>,
    decoder: FrameDecoder,
    buffer: Vec<u8>,
}

impl IoLoop {
    pub(super) fn new(shared: Arc<Shared>, children: SignalStream) -> Self {
        Self {
            shared,
            children,
            commands: Vec::new(),
            requests: Table::default(),
            gathering: Table::default(),
            cancelling: Vec::new(),
            ending: Vec::new(),
            sleeping: Vec::new(),
            batches: Vec::new(),
            decoder: FrameDecoder::in_step(),
            buffer: vec![0; HEADER_LEN + MAX_PAYLOAD],
        }
    }

    pub(super) fn run(mut self) -> ! {
        let mut fds = Vec::new();
        let mut roles = Vec::new();
        loop {
            fds.clear();
            roles.clear();
            fds.push(fd::interest(roots::SOCKET, libc::POLLIN));
            fds.push(fd::interest(self.shared.wake_fd(), libc::POLLIN));
            fds.push(fd::interest(self.children.as_raw_fd(), libc::POLLIN));
            let fixed = fds.len();
            let now = Instant::now();
            for (index, command) in self.commands.iter_mut().enumerate() {
                command.interests(now, |fd, events, role| {
                    fds.push(fd::interest(fd, events));
                    roles.push((index, role));
                });
            }
            match fd::poll(&mut fds, self.timeout()) {
                Ok(_) | Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.shared.quit(),
            }
            if fds[1].revents != 0 {
                let _ = fd::read(self.shared.wake_fd(), &mut [0; 8]);
            }
            for (slot, (index, role)) in fds[fixed..].iter().zip(&roles) {
                if slot.revents != 0 {
                    self.tend(*index, *role);
                }
            }
            if fds[0].revents != 0 {
                self.receive();
            }
            self.take_started();
            if fds[2].revents != 0 {
                while self.children.next().is_some() {}
                self.collect();
            }
            let shared = Arc::clone(&self.shared);
            self.commands.retain_mut(|command| !command.settle(&shared));
            self.check_times();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.cancelling.is_empty() {
            return Some(INTERRUPT_INTERVAL);
        }
        let commands = self.commands.iter().filter_map(Command::deadline);
        let ending = self.ending.iter().map(|(_, _, until)| *until);
        let sleeping = self.sleeping.iter().map(|(_, until)| *until);
        let nearest = commands.chain(ending).chain(sleeping).min()?;
        Some(nearest.saturating_duration_since(Instant::now()))
    }

    fn tend(&mut self, index: usize, role: Role) {
        if let Some(command) = self.commands.get_mut(index) {
            command.ready(role, &self.shared, &mut self.buffer[..MAX_PAYLOAD]);
        }
    }

    fn take_started(&mut self) {
        for started in self.shared.take_started() {
            if started.kind == Kind::Connection {
                self.shared.event(&started.call, &Event::Connected);
            }
            self.commands.push(Command::new(started));
        }
    }

    /// Collects children that have ended.
    fn collect(&mut self) {
        while let Ok(Some((pid, ending))) = process::collect() {
            // What an owner's thread has handed over meanwhile may be this one.
            self.take_started();
            match self.shared.disown(pid, ending) {
                Some(Child::Raw(owner)) => owner.note_end(pid, ending),
                Some(Child::Operation(owner, slot)) => {
                    let known = self.commands.iter_mut().find(|command| command.pid == pid);
                    match known {
                        Some(command) => command.ended(ending, &self.shared),
                        None if owner.operation_ended(slot, pid, ending) => {}
                        None => {
                            self.take_started();
                            let known = self.commands.iter_mut().find(|it| it.pid == pid);
                            if let Some(command) = known {
                                command.ended(ending, &self.shared);
                            }
                        }
                    }
                }
                Some(Child::Other) => {}
                // It may be a child that was not reported yet, and that can no longer ring.
                None => {
                    for owner in self.shared.owners() {
                        owner.area.ring();
                    }
                }
            }
        }
    }

    /// Receives the packets that are available, up to a limit.
    fn receive(&mut self) {
        for _ in 0..32 {
            match packet::receive(roots::SOCKET, &mut self.buffer, Waiting::Returns) {
                Ok(0) => self.shared.quit(),
                Ok(len) => {
                    self.decoder.push(&self.buffer[..len]);
                    match self.decoder.next_item() {
                        Ok(Some(Item::Frame(frame))) => self.frame(frame),
                        Ok(_) => {}
                        Err(_) => self.shared.quit(),
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.shared.quit(),
            }
        }
    }

    fn frame(&mut self, frame: Frame) {
        match frame.kind {
            FrameKind::Request => self.request(&frame),
            FrameKind::Data => {
                let Some(call) = self.shared.call(frame.lane, frame.call) else {
                    return;
                };
                let buffered = call.push_input(frame.payload);
                if buffered >= INITIAL_WINDOW as usize / 2 {
                    self.give_out(&call);
                }
            }
            FrameKind::End => {
                let Some(call) = self.shared.call(frame.lane, frame.call) else {
                    return;
                };
                call.end_input();
                self.give_out(&call);
            }
            FrameKind::Credit => {
                if let Some(call) = self.shared.call(frame.lane, frame.call)
                    && let Some(bytes) = frame.granted()
                {
                    call.grant(frame.channel, bytes);
                }
            }
            FrameKind::Cancel => self.cancel(frame.lane, frame.call),
            FrameKind::Goodbye => self.shared.quit(),
            _ => {}
        }
    }

    fn request(&mut self, frame: &Frame) {
        let key = (frame.lane, frame.call);
        let request = self.requests.get_or_default(key);
        request.size += frame.payload.len();
        if request.refused {
            if !frame.more {
                self.requests.remove(&key);
            }
            return;
        }
        // The kernel refuses what is longer; here it would only take memory meanwhile.
        if frame.payload.starts_with(COMMAND) {
            request.limit = Some(COMMAND_LIMIT);
        }
        if request.limit.is_some_and(|limit| request.size > limit) {
            *request = Request {
                refused: true,
                ..Request::default()
            };
            if !frame.more {
                self.requests.remove(&key);
            }
            let error: OpResult = Err(failure::os("exec", Errno(libc::E2BIG)));
            let message = codec::encode(&error);
            return self
                .shared
                .message(FrameKind::Reply, frame.lane, frame.call, &message);
        }
        let message = match request.parts.push(frame) {
            Ok(None) => return,
            Ok(Some(message)) => Ok(message),
            Err(_) => Err("the request is too long"),
        };
        self.requests.remove(&key);
        let op = message.and_then(|message| {
            codec::decode::<Op>(&message).map_err(|_| "the request cannot be read")
        });
        let Some(owner) = self.shared.owner(frame.lane) else {
            let error: OpResult = Err(failure::no_such_lane(frame.lane));
            let message = codec::encode(&error);
            return self
                .shared
                .message(FrameKind::Reply, frame.lane, frame.call, &message);
        };
        let call = Call::new(frame.call, &owner, Asker::Host, op.as_ref().ok());
        let call = Arc::new(call);
        if !self.shared.open(&call) {
            return;
        }
        if let Some(background) = call.delays_join() {
            owner.background.begun(background);
        }
        match op {
            Ok(op) => self.begin(&owner, call, op),
            Err(why) => self.shared.finish(&call, Err(failure::invalid(why))),
        }
    }

    /// Does at once what needs no process of the owner's; gives out the rest.
    fn begin(&mut self, owner: &Arc<Owner>, call: Arc<Call>, op: Op) {
        let shared = Arc::clone(&self.shared);
        // A worker that has ended can still be signalled and joined: there is nothing left of it.
        if let Some(error) = owner.refusal()
            && !matches!(op, Op::SignalAll { .. } | Op::Join)
        {
            return shared.finish(&call, Err(error));
        }
        match op {
            Op::Signal {
                call: target,
                signal,
                target: who,
            } => {
                let (group, tree) = match who {
                    SignalTarget::Process => (false, false),
                    SignalTarget::Group => (true, false),
                    SignalTarget::Tree => (true, true),
                };
                let result = shared
                    .call(owner.lane, target)
                    .ok_or(Errno::SRCH)
                    .and_then(|target| owner.signal(&target, signal, group, tree))
                    .map(|()| Reply::Done)
                    .map_err(|errno| failure::os("kill", errno));
                shared.finish(&call, result);
            }
            Op::SignalAll { signal, everything } => {
                let calls = shared.calls_of(owner.lane);
                let meant = calls.iter().filter(|target| {
                    target.command == Some(true) || (everything && target.command.is_some())
                });
                let count = meant
                    .filter(|target| owner.signal(target, signal, true, false).is_ok())
                    .count();
                shared.finish(&call, Ok(Reply::Count(count as u64)));
            }
            Op::Join => shared.answer(owner.background.join(call)),
            Op::ReadMemory { address, len } => {
                let result = read_memory(owner, address, len);
                shared.finish(&call, result);
            }
            Op::WriteMemory { address, data } => {
                let pid = owner.raw_process().ok_or(Errno::SRCH);
                let result = pid
                    .and_then(|pid| memory::write_of(pid, address, &data))
                    .map(|()| Reply::Done)
                    .map_err(|errno| failure::os(format!("write memory at {address:#x}"), errno));
                shared.finish(&call, result);
            }
            Op::WriteFile { content: None, .. } | Op::WriteFd { .. } => {
                self.gathering.insert((call.lane, call.id), op);
            }
            Op::RetireWorker { lane } => self.retire(call, lane),
            Op::Batch { ops } => {
                let batch = Batch::begin(&shared, Arc::clone(&call), ops);
                if !call.is_answered() {
                    self.batches.retain(|(call, _)| !call.is_answered());
                    self.batches.push((call, batch));
                }
            }
            Op::CheckFd { fd } => {
                let result = if owner.has_descriptor(fd) {
                    Ok(Reply::Done)
                } else {
                    Err(super::operations::stale())
                };
                shared.finish(&call, result);
            }
            Op::ClockGet => shared.finish(&call, clock::get()),
            Op::ClockSet { ns } => shared.finish(&call, clock::set(ns)),
            Op::ClockAdvance { ns } => shared.finish(&call, clock::advance(ns)),
            Op::ClockSleep { ns } => match Instant::now().checked_add(Duration::from_nanos(ns)) {
                Some(until) => self.sleeping.push((call, until)),
                None => shared.finish(&call, Err(failure::invalid("too long a sleep"))),
            },
            // Operations of other classes: a process of the owner carries them out.
            op => owner.push(&shared, Job { call, op }),
        }
    }

    fn give_out(&mut self, call: &Arc<Call>) {
        if let Some(op) = self.gathering.remove(&(call.lane, call.id)) {
            let job = Job {
                call: Arc::clone(call),
                op,
            };
            call.owner.push(&self.shared, job);
        }
    }

    /// Ends a worker and all it owns.
    fn retire(&mut self, call: Arc<Call>, lane: Lane) {
        if lane < Lane::FIRST_WORKER {
            let error = failure::invalid(format!("lane `{lane}` is not a worker"));
            return self.shared.finish(&call, Err(error));
        }
        let Some(owner) = self.shared.owner(lane) else {
            return self.shared.finish(&call, Ok(Reply::Done));
        };
        self.shared.remove_owner(lane);
        self.requests.retain(|(of, _)| *of != lane);
        self.gathering.retain(|(of, _)| *of != lane);
        for open in self.shared.calls_of(lane) {
            self.shared.finish(&open, Err(failure::no_such_lane(lane)));
        }
        self.ending
            .push((Arc::clone(&call), Arc::clone(&owner), Instant::now() + END));
        owner.close(&self.shared, call);
        owner.turn(&self.shared, false);
    }

    fn cancel(&mut self, lane: Lane, id: CallId) {
        self.requests.remove(&(lane, id));
        let Some(call) = self.shared.call(lane, id) else {
            return;
        };
        self.cancel_call(call);
    }

    fn cancel_call(&mut self, call: Arc<Call>) {
        if call.is_cancelled() {
            return;
        }
        call.cancel();
        let batch = self
            .batches
            .iter()
            .find(|(of, _)| Arc::ptr_eq(of, &call))
            .map(|(_, batch)| Arc::clone(batch));
        if let Some(batch) = batch {
            // The entry that runs is stopped; then the batch starts no further one.
            if let Some(entry) = batch.current() {
                self.cancel_call(entry);
            }
            return;
        }
        let before = self.sleeping.len();
        self.sleeping
            .retain(|(sleeping, _)| !Arc::ptr_eq(sleeping, &call));
        let withdrawn = self.sleeping.len() < before
            || self.gathering.remove(&(call.lane, call.id)).is_some()
            || call.owner.background.withdraw(&call)
            || call.owner.withdraw(&self.shared, &call);
        if withdrawn {
            return self.shared.finish(&call, Err(failure::cancelled()));
        }
        if let Some(pid) = call.process() {
            super::owner::kill_tree(pid);
        }
        self.cancelling.push((call, Instant::now() + GRACE));
        self.interrupt_cancelled(Instant::now());
    }

    fn check_times(&mut self) {
        if self.cancelling.is_empty() && self.ending.is_empty() && self.sleeping.is_empty() {
            return;
        }
        let now = Instant::now();
        self.interrupt_cancelled(now);
        let shared = &self.shared;
        self.ending.retain(|(call, owner, until)| {
            if call.is_answered() {
                return false;
            }
            if now < *until {
                return true;
            }
            owner.stop_waiting_for_end(call);
            shared.finish(call, Ok(Reply::Done));
            false
        });
        self.sleeping.retain(|(call, until)| {
            let over = now >= *until;
            if over {
                shared.finish(call, Ok(Reply::Done));
            }
            !over
        });
    }

    /// Interrupts the calls that were cancelled again, and gives up on those that cannot be interrupted.
    fn interrupt_cancelled(&mut self, now: Instant) {
        let shared = Arc::clone(&self.shared);
        self.cancelling.retain(|(call, until)| {
            if call.is_answered() {
                return false;
            }
            call.owner.interrupt(call);
            if now < *until {
                return true;
            }
            // Answered first: jobs that have not started continue with the next raw process.
            shared.finish(call, Err(failure::cancelled()));
            call.owner.give_up(&shared, call);
            false
        });
    }
}

fn read_memory(owner: &Owner, address: u64, len: u64) -> OpResult {
    if len > MEMORY_LIMIT {
        return Err(failure::invalid(format!(
            "at most {MEMORY_LIMIT} bytes of memory at a time"
        )));
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    owner
        .raw_process()
        .ok_or(Errno::SRCH)
        .and_then(|pid| memory::read_of(pid, address, len))
        .map(|bytes| Reply::Bytes(bytes.into()))
        .map_err(|errno| failure::os(format!("read memory at {address:#x}"), errno))
}
