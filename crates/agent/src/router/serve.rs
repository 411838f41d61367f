//! The poll loop, and what the host says.
//!
//! Long because every frame of the host's is told apart here, and each kind needs the same state.

use super::asks::Asks;
use super::link::{self, Executor, OpenCall};
use super::outgoing::Outgoing;
use super::quiet::{Quiet, Speaking};
use crate::executor::Root;
use crate::failure::{self, OpResult};
use crate::init::power::PowerButton;
use crate::sys::signal::SignalStream;
use crate::sys::{fd, process};
use crate::transport::{Heard, Kind, Transport};
use provium_protocol::frame::{Assembler, HEADER_LEN, Item, MAX_PAYLOAD};
use provium_protocol::{CallId, Frame, FrameDecoder, FrameKind, Lane, WireError, codec};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Between announcements on a line that may have had no listener.
const ANNOUNCE: Duration = Duration::from_secs(1);
/// How long a line without a host is left alone.
const ABSENCE: Duration = Duration::from_millis(20);
/// Packets taken from the executor before the host's turn.
const TURN: usize = 16;

/// What the router does besides routing.
pub(crate) struct Duties {
    /// Whether this is process 1 for good.
    pub(crate) is_init: bool,
    /// Blocked signals, to be read here.
    pub(crate) signals: SignalStream,
    pub(crate) power: PowerButton,
    /// Whether programs may ask for modules.
    pub(crate) asks: Asks,
    /// What went wrong so far, for the host to know.
    pub(crate) complaints: Vec<String>,
}

pub(crate) struct Router {
    pub(super) transport: Transport,
    pub(super) duties: Duties,
    pub(super) root: Root,
    decoder: FrameDecoder,
    pub(super) out: Outgoing,
    /// The host's session; `None`: no host yet.
    pub(super) session: Option<u64>,
    /// A SYNC came, its hello not yet.
    greeting: Option<Assembler>,
    announced: Instant,
    absent_until: Option<Instant>,
    pub(super) executor: Option<Executor>,
    /// How many there were.
    pub(super) executors: u32,
    /// Why there is no executor.
    pub(super) unserved: String,
    /// Requests that arrive in several frames; those that the executor's end interrupted are void.
    arriving: BTreeMap<(Lane, CallId), Arrival>,
    /// Former executors that were told to end.
    pub(super) doomed: BTreeMap<i32, Instant>,
    pub(super) quiet: Quiet,
    pub(super) speaking: Speaking,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Arrival {
    /// For the router itself.
    Own(Assembler),
    Forwarded,
    Void,
}

/// What a poll entry stands for.
#[derive(Clone, Copy)]
enum Source {
    Host,
    Signals,
    Power,
    Asks,
    Executor,
}

impl Router {
    pub(crate) fn new(transport: Transport, duties: Duties, root: Root) -> Self {
        Self {
            transport,
            duties,
            root,
            decoder: FrameDecoder::new(),
            out: Outgoing::default(),
            session: None,
            greeting: None,
            announced: Instant::now(),
            absent_until: None,
            executor: None,
            executors: 0,
            unserved: String::new(),
            arriving: BTreeMap::new(),
            doomed: BTreeMap::new(),
            quiet: Quiet::default(),
            speaking: Speaking::new(),
            buffer: vec![0; HEADER_LEN + MAX_PAYLOAD],
        }
    }

    /// Serves for as long as the process lives, or the host of a test.
    pub(crate) fn run(mut self) -> ! {
        self.announce();
        self.out.flush(&self.transport);
        self.start_executor();
        let mut fds = Vec::new();
        let mut sources = Vec::new();
        loop {
            self.interests(&mut fds, &mut sources);
            let _ = fd::poll(&mut fds, self.timeout());
            for (slot, source) in fds.iter().zip(&sources) {
                if slot.revents == 0 {
                    continue;
                }
                match source {
                    Source::Host => self.hear(slot.revents),
                    Source::Signals => self.signals(),
                    Source::Power => self.duties.power.pressed(),
                    Source::Asks => {}
                    Source::Executor => self.tend_executor(slot.revents),
                }
            }
            self.tend_asks();
            self.check_deadlines();
            self.settle_quiet();
            self.out.flush(&self.transport);
        }
    }

    fn interests(&mut self, fds: &mut Vec<libc::pollfd>, sources: &mut Vec<Source>) {
        fds.clear();
        sources.clear();
        let mut add = |fd, events, source| {
            fds.push(fd::interest(fd, events));
            sources.push(source);
        };
        if self
            .absent_until
            .is_none_or(|until| Instant::now() >= until)
        {
            self.absent_until = None;
            let writing = if self.out.is_empty() {
                0
            } else {
                libc::POLLOUT
            };
            add(
                self.transport.as_raw_fd(),
                libc::POLLIN | writing,
                Source::Host,
            );
        }
        add(
            self.duties.signals.as_raw_fd(),
            libc::POLLIN,
            Source::Signals,
        );
        self.duties
            .power
            .each(|fd| add(fd, libc::POLLIN, Source::Power));
        if self.quiet.is_talking() {
            self.duties
                .asks
                .each(|fd, events| add(fd, events, Source::Asks));
        }
        let reading = if self.out.has_room() { libc::POLLIN } else { 0 };
        if let Some(executor) = &self.executor {
            let writing = if executor.has_backlog() {
                libc::POLLOUT
            } else {
                0
            };
            let reading = if self.may_speak() { reading } else { 0 };
            if reading | writing != 0 {
                add(executor.fd(), reading | writing, Source::Executor);
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let doomed = self.doomed.values().copied();
        let announce = (self.transport.kind == Kind::Line && self.session.is_none())
            .then(|| self.announced + ANNOUNCE);
        let power = self.duties.power.look_again();
        let next = doomed
            .chain(announce)
            .chain(power)
            .chain(self.absent_until)
            .min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn hear(&mut self, events: i16) {
        let mut heard = false;
        for _ in 0..64 {
            match self.transport.read(&mut self.buffer) {
                Heard::Bytes(len) => {
                    heard = true;
                    self.decoder.push(&self.buffer[..len]);
                }
                Heard::Nothing => break,
                Heard::Gone if self.transport.kind == Kind::Socket => {
                    self.dismiss_all();
                    process::exit(0);
                }
                Heard::Gone => {
                    self.absent_until = Some(Instant::now() + ABSENCE);
                    break;
                }
            }
        }
        if !heard && events & (libc::POLLHUP | libc::POLLERR) != 0 {
            self.absent_until = Some(Instant::now() + ABSENCE);
        }
        loop {
            match self.decoder.next_item() {
                Ok(Some(Item::Sync)) => {
                    self.end_quiet();
                    self.greeting = Some(Assembler::default());
                }
                Ok(Some(Item::Frame(frame))) => {
                    self.end_quiet();
                    self.frame(frame);
                }
                Ok(None) => return,
                // Out of step: the host shall begin anew.
                Err(_) => self.announce(),
            }
        }
    }

    fn frame(&mut self, frame: Frame) {
        if frame.kind == FrameKind::Hello {
            let Some(greeting) = &mut self.greeting else {
                return;
            };
            if let Ok(Some(message)) = greeting.push(&frame) {
                self.greeting = None;
                self.begin_session(&message);
            }
            return;
        }
        if self.greeting.is_some() || self.session.is_none() {
            return;
        }
        match frame.kind {
            FrameKind::Ping => {
                let pong = Frame::new(FrameKind::Pong, frame.lane, frame.call, Vec::new());
                self.out.push(&pong.to_bytes());
            }
            FrameKind::HostReply => self.duties.asks.answer(&frame),
            FrameKind::Request => self.request(frame),
            FrameKind::Cancel if frame.lane == Lane::AGENT => {
                self.arriving.remove(&(frame.lane, frame.call));
                self.cancel_quiet(frame.call);
            }
            FrameKind::Cancel => self.cancel(&frame),
            FrameKind::Data | FrameKind::End | FrameKind::Credit => {
                if let Some(executor) = &mut self.executor
                    && executor.calls.contains_key(&(frame.lane, frame.call))
                {
                    executor.send(&frame);
                }
            }
            _ => {}
        }
    }

    fn request(&mut self, frame: Frame) {
        let key = (frame.lane, frame.call);
        if frame.call >= CallId::FIRST_INTERNAL {
            if !frame.more {
                self.refuse(
                    frame.lane,
                    frame.call,
                    failure::invalid("call ids end at 2^31"),
                );
            }
            return;
        }
        if frame.lane == Lane::AGENT {
            let arrival = self
                .arriving
                .entry(key)
                .or_insert_with(|| Arrival::Own(Assembler::default()));
            let Arrival::Own(assembler) = arrival else {
                return;
            };
            match assembler.push(&frame) {
                Ok(None) => {}
                Ok(Some(message)) => {
                    self.arriving.remove(&key);
                    self.begin_task(frame.call, &message);
                }
                Err(_) => {
                    self.arriving.remove(&key);
                    self.refuse(
                        frame.lane,
                        frame.call,
                        failure::invalid("too long a request"),
                    );
                }
            }
            return;
        }
        let first = match self.arriving.get(&key) {
            None => true,
            Some(Arrival::Void) => {
                if !frame.more {
                    self.arriving.remove(&key);
                }
                return;
            }
            Some(_) => false,
        };
        let refusal = match &self.executor {
            None => Some(failure::lane_died(&self.unserved)),
            Some(_) => None,
        };
        if frame.more {
            let arrival = if refusal.is_some() {
                Arrival::Void
            } else {
                Arrival::Forwarded
            };
            self.arriving.insert(key, arrival);
        } else {
            self.arriving.remove(&key);
        }
        if let Some(error) = refusal {
            self.refuse(frame.lane, frame.call, error);
            return;
        }
        if let Some(executor) = &mut self.executor {
            if first {
                executor.calls.insert(key, OpenCall::default());
            }
            executor.send(&frame);
        }
    }

    fn cancel(&mut self, frame: &Frame) {
        if let Some(executor) = &mut self.executor
            && let Some(call) = executor.calls.get_mut(&(frame.lane, frame.call))
            && !call.cancelled
        {
            call.cancelled = true;
            executor.send(frame);
        }
    }

    /// A reply of the router's own.
    pub(super) fn reply(&mut self, lane: Lane, call: CallId, result: &OpResult) {
        self.say(FrameKind::Reply, lane, call, &codec::encode(result));
    }

    fn refuse(&mut self, lane: Lane, call: CallId, error: WireError) {
        self.reply(lane, call, &Err(error));
    }

    /// A message of the router's own.
    pub(super) fn say(&mut self, kind: FrameKind, lane: Lane, call: CallId, message: &[u8]) {
        for frame in Frame::split(kind, lane, call, message) {
            self.out.push(&frame.to_bytes());
        }
    }

    /// Takes what the executor has, a few packets.
    fn tend_executor(&mut self, events: i16) {
        if events & libc::POLLOUT != 0
            && let Some(executor) = &mut self.executor
        {
            executor.flush();
        }
        let mut any = false;
        for _ in 0..TURN {
            if !self.out.has_room() || !self.may_speak() || !self.take_packet() {
                break;
            }
            any = true;
        }
        // Its socket is closed, so it is ending: nothing more can come.
        if !any && events & (libc::POLLHUP | libc::POLLERR) != 0 {
            let pid = self.executor.as_ref().map(|executor| executor.pid);
            self.reap();
            if let Some(executor) = &self.executor
                && Some(executor.pid) == pid
            {
                let _ = crate::sys::signal::send(executor.pid, libc::SIGKILL, false);
                self.executor_ended("closed its socket to the agent");
            }
        }
    }

    /// Takes one packet of the executor; false when there was none.
    pub(super) fn take_packet(&mut self) -> bool {
        let Some(executor) = &mut self.executor else {
            return false;
        };
        let Some(packet) = executor.receive(&mut self.buffer) else {
            return false;
        };
        let Some(upward) = link::inspect(packet) else {
            let _ = crate::sys::signal::send(executor.pid, libc::SIGKILL, false);
            self.executor_ended("wrote nonsense to the agent's socket and was stopped");
            return true;
        };
        let key = (upward.lane, upward.call);
        if upward.more {
            self.speaking.insert(key);
        } else {
            self.speaking.remove(&key);
        }
        let known = executor.calls.contains_key(&key);
        if upward.kind == FrameKind::Reply && !upward.more {
            executor.calls.remove(&key);
        }
        if known {
            if upward.kind == FrameKind::Event {
                executor.note_process(key, &packet[HEADER_LEN..]);
            }
            self.out.push(packet);
        }
        true
    }

    /// Answers what was open, and starts another executor.
    pub(super) fn executor_ended(&mut self, how: &str) {
        self.speaking.clear();
        let Some(executor) = self.executor.take() else {
            return;
        };
        for arrival in self.arriving.values_mut() {
            if matches!(arrival, Arrival::Forwarded) {
                *arrival = Arrival::Void;
            }
        }
        for ((lane, id), call) in executor.calls {
            call.end_process();
            let error = if call.cancelled {
                failure::cancelled()
            } else {
                failure::lane_died(how)
            };
            self.refuse(lane, id, error);
        }
        self.start_executor();
    }

    fn check_deadlines(&mut self) {
        let now = Instant::now();
        if self.transport.kind == Kind::Line
            && self.session.is_none()
            && now >= self.announced + ANNOUNCE
        {
            self.announce();
        }
        self.duties.power.look(now);
        self.doomed.retain(|pid, until| {
            if now < *until {
                return true;
            }
            let _ = crate::sys::signal::send(*pid, libc::SIGKILL, false);
            false
        });
    }

    pub(super) fn mark_announced(&mut self) {
        self.announced = Instant::now();
    }

    pub(super) fn forget_arrivals(&mut self) {
        self.arriving.clear();
    }
}
