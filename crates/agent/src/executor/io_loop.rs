//! The I/O thread: takes frames in, tends the pipes of commands, cancels.

use super::call::Call;
use super::command::{Command, Role};
use super::job::{Job, Work};
use super::shared::Shared;
use crate::failure;
use crate::ops::memory;
use crate::roots;
use crate::sys::packet::{self, Received, Waiting};
use crate::sys::{Errno, fd, signal};
use provium_protocol::frame::{Assembler, HEADER_LEN, INITIAL_WINDOW, Item, MAX_PAYLOAD};
use provium_protocol::{CallId, Frame, FrameDecoder, FrameKind, Lane, Op, Reply, codec};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a thread that should stop waiting is told again.
const NUDGE: Duration = Duration::from_millis(20);
/// How long it may take to stop.
const GRACE: Duration = Duration::from_secs(2);

pub(super) struct IoLoop {
    shared: Arc<Shared>,
    commands: Vec<Command>,
    requests: BTreeMap<CallId, Assembler>,
    /// Calls whose job is given out when their input is complete, or fills the window.
    gathering: BTreeMap<CallId, Op>,
    cancelling: Vec<(Arc<Call>, Instant)>,
    decoder: FrameDecoder,
    buffer: Vec<u8>,
}

impl IoLoop {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            commands: Vec::new(),
            requests: BTreeMap::new(),
            gathering: BTreeMap::new(),
            cancelling: Vec::new(),
            decoder: FrameDecoder::in_step(),
            buffer: vec![0; HEADER_LEN + MAX_PAYLOAD],
        }
    }

    pub(super) fn run(mut self) -> ! {
        signal::block_all_but_interrupt();
        let mut fds = Vec::new();
        let mut roles = Vec::new();
        loop {
            fds.clear();
            roles.clear();
            fds.push(fd::interest(roots::SOCKET, libc::POLLIN));
            fds.push(fd::interest(self.shared.wake_fd(), libc::POLLIN));
            for (index, command) in self.commands.iter_mut().enumerate() {
                command.interests(|fd, events, role| {
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
            for (slot, (index, role)) in fds[2..].iter().zip(&roles) {
                if slot.revents != 0 {
                    self.tend(*index, *role);
                }
            }
            if fds[0].revents != 0 {
                self.receive();
            }
            let started = self.shared.take_started();
            self.commands.extend(started.into_iter().map(Command::new));
            let shared = Arc::clone(&self.shared);
            self.commands.retain_mut(|command| !command.settle(&shared));
            self.nudge();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.cancelling.is_empty() {
            return Some(NUDGE);
        }
        let now = Instant::now();
        let nearest = self.commands.iter().filter_map(Command::deadline).min()?;
        Some(nearest.saturating_duration_since(now))
    }

    fn tend(&mut self, index: usize, role: Role) {
        if let Some(command) = self.commands.get_mut(index) {
            command.ready(role, &self.shared, &mut self.buffer[..MAX_PAYLOAD]);
        }
    }

    /// Takes packets in while there are any, but not for ever.
    fn receive(&mut self) {
        for _ in 0..32 {
            match packet::receive(roots::SOCKET, &mut self.buffer, Waiting::Returns) {
                Ok(Received { len: 0, .. }) => self.shared.quit(),
                Ok(Received { len, passed }) => {
                    self.decoder.push(&self.buffer[..len]);
                    match self.decoder.next_item() {
                        Ok(Some(Item::Frame(frame))) => self.frame(frame, passed),
                        Ok(_) => {}
                        // Only a test that writes to the socket can cause this.
                        Err(_) => self.shared.quit(),
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.shared.quit(),
            }
        }
    }

    fn frame(&mut self, frame: Frame, passed: Option<OwnedFd>) {
        match frame.kind {
            FrameKind::Request => self.request(&frame, passed),
            FrameKind::Data => {
                let Some(call) = self.shared.call(frame.call) else {
                    return;
                };
                let buffered = call.push_input(frame.payload);
                if buffered >= INITIAL_WINDOW as usize / 2 {
                    self.give_out(&call);
                }
            }
            FrameKind::End => {
                let Some(call) = self.shared.call(frame.call) else {
                    return;
                };
                call.end_input();
                self.give_out(&call);
            }
            FrameKind::Credit => {
                if let Some(call) = self.shared.call(frame.call)
                    && let Some(bytes) = frame.granted()
                {
                    call.grant(frame.channel, bytes);
                }
            }
            FrameKind::Cancel => self.cancel(frame.call),
            // Between router and executor, this says: end.
            FrameKind::Hello => self.shared.quit(),
            _ => {}
        }
    }

    fn request(&mut self, frame: &Frame, passed: Option<OwnedFd>) {
        let id = frame.call;
        let assembler = self.requests.entry(id).or_default();
        let message = match assembler.push(frame) {
            Ok(None) => return,
            Ok(Some(message)) => Ok(message),
            Err(_) => Err("the request is too long"),
        };
        self.requests.remove(&id);
        let op = message.and_then(|message| {
            codec::decode::<Op>(&message).map_err(|_| "the request cannot be read")
        });
        let background = matches!(&op, Ok(Op::Exec(exec)) if exec.background);
        let call = Arc::new(Call::new(id, background));
        if !self.shared.open(&call) {
            return;
        }
        match op {
            Ok(op) => self.begin(call, op, frame.lane, passed),
            Err(why) => self.shared.finish(&call, Err(failure::invalid(why))),
        }
    }

    /// Does at once what needs no waiting and no identity; gives out the rest.
    fn begin(&mut self, call: Arc<Call>, op: Op, lane: Lane, passed: Option<OwnedFd>) {
        let shared = &self.shared;
        match op {
            Op::Signal {
                call: target,
                signal,
                group,
            } => {
                let result = shared
                    .call(target)
                    .ok_or(Errno::SRCH)
                    .and_then(|target| target.signal(signal, group))
                    .map(|()| Reply::Done)
                    .map_err(|errno| failure::os("kill", errno));
                shared.finish(&call, result);
            }
            Op::SignalAll { signal } => {
                let calls = shared.background_calls();
                let count = calls
                    .iter()
                    .filter(|target| target.signal(signal, true).is_ok())
                    .count();
                shared.finish(&call, Ok(Reply::Count(count as u64)));
            }
            Op::Join => shared.join(call),
            Op::ReadMemory { address, len } => {
                shared.finish(&call, memory::read(shared.raw, address, len));
            }
            Op::WriteMemory { address, data } => {
                shared.finish(&call, memory::write(shared.raw, address, &data));
            }
            Op::WriteFile { content: None, .. } | Op::WriteFd { .. } => {
                self.gathering.insert(call.id, op);
            }
            Op::SpawnWorker(spec) => match passed.map(|socket| shared.tuck_away(socket)) {
                Some(socket) => {
                    shared.push_job(Job {
                        call,
                        work: Work::Worker { spec, lane, socket },
                    });
                }
                None => shared.finish(
                    &call,
                    Err(failure::invalid("only the agent starts workers")),
                ),
            },
            op => shared.push_job(Job {
                call,
                work: Work::Op(op),
            }),
        }
    }

    fn give_out(&mut self, call: &Arc<Call>) {
        if let Some(op) = self.gathering.remove(&call.id) {
            self.shared.push_job(Job {
                call: Arc::clone(call),
                work: Work::Op(op),
            });
        }
    }

    fn cancel(&mut self, id: CallId) {
        self.requests.remove(&id);
        let Some(call) = self.shared.call(id) else {
            return;
        };
        call.cancel();
        if self.gathering.remove(&id).is_some() || self.shared.withdraw_job(&call) {
            self.shared.finish(&call, Err(failure::cancelled()));
            return;
        }
        // No matter if it is no command, or has ended.
        let _ = call.signal(libc::SIGKILL, true);
        self.cancelling.push((call, Instant::now() + GRACE));
    }

    /// Tells those again who should have stopped, and gives up on those who cannot.
    fn nudge(&mut self) {
        let now = Instant::now();
        let shared = Arc::clone(&self.shared);
        self.cancelling.retain(|(call, until)| {
            if shared
                .call(call.id)
                .is_none_or(|open| !Arc::ptr_eq(&open, call))
            {
                return false;
            }
            if shared.withdraw_join(call) {
                shared.finish(call, Err(failure::cancelled()));
                return false;
            }
            call.interrupt();
            if now < *until {
                return true;
            }
            if shared.is_on_main_thread(call) {
                // A new process is the only way to get the lane going again.
                shared.give_up();
            }
            shared.finish(call, Err(failure::cancelled()));
            false
        });
    }
}
