//! The poll loop, and what the host says.
//!
//! Long because every frame of the host's is told apart here, and each kind needs the same state.

use super::asks::Asks;
use super::lanes::{self, Executor, LaneState, Leaving, OpenCall, Owner};
use super::outgoing::Outgoing;
use super::quiet::{Quiet, Speaking};
use super::tasks::Task;
use crate::executor::Root;
use crate::failure::{self, OpResult};
use crate::init::power::PowerButton;
use crate::sys::signal::SignalStream;
use crate::sys::{fd, process};
use crate::transport::{Heard, Kind, Transport};
use provium_protocol::frame::{Assembler, HEADER_LEN, Item, MAX_PAYLOAD};
use provium_protocol::{CallId, Frame, FrameDecoder, FrameKind, Lane, WireError, codec};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Between announcements on a line that may have had no listener.
const ANNOUNCE: Duration = Duration::from_secs(1);
/// How long a line without a host is left alone.
const ABSENCE: Duration = Duration::from_millis(20);
/// Packets taken from one lane before the next one's turn.
const TURN: usize = 4;

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
    pub(super) lanes: BTreeMap<Lane, LaneState>,
    /// Requests that arrive in several frames; those of a lane that ended meanwhile are void.
    arriving: BTreeMap<(Lane, CallId), Arrival>,
    pub(super) tasks: BTreeMap<CallId, Task>,
    /// Which task an inner call belongs to, and which entry of it.
    pub(super) inner: BTreeMap<CallId, CallId>,
    /// Replies to inner calls that arrive in several packets.
    pub(super) inner_replies: BTreeMap<CallId, Assembler>,
    pub(super) next_inner: u32,
    pub(super) next_worker: u32,
    /// Processes of former lanes that were told to end.
    pub(super) doomed: BTreeMap<i32, Instant>,
    /// Children whose lane is not known yet.
    pub(super) early: Vec<(i32, process::Ending)>,
    pub(super) quiet: Quiet,
    pub(super) speaking: Speaking,
    turn: usize,
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
    Lane(Lane),
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
            lanes: BTreeMap::new(),
            arriving: BTreeMap::new(),
            tasks: BTreeMap::new(),
            inner: BTreeMap::new(),
            inner_replies: BTreeMap::new(),
            next_inner: 0,
            next_worker: Lane::FIRST_WORKER.0,
            doomed: BTreeMap::new(),
            early: Vec::new(),
            quiet: Quiet::default(),
            speaking: Speaking::new(),
            turn: 0,
            buffer: vec![0; HEADER_LEN + MAX_PAYLOAD],
        }
    }

    /// Serves for as long as the process lives, or the host of a test.
    pub(crate) fn run(mut self) -> ! {
        self.announce();
        self.out.flush(&self.transport);
        self.start_own_lanes();
        let mut fds = Vec::new();
        let mut sources = Vec::new();
        loop {
            self.interests(&mut fds, &mut sources);
            let _ = fd::poll(&mut fds, self.timeout());
            let mut lanes = BTreeSet::new();
            for (slot, source) in fds.iter().zip(&sources) {
                if slot.revents == 0 {
                    continue;
                }
                match source {
                    Source::Host => self.hear(slot.revents),
                    Source::Signals => self.signals(),
                    Source::Power => self.duties.power.pressed(),
                    Source::Asks => {}
                    Source::Lane(lane) => {
                        lanes.insert((*lane, slot.revents & libc::POLLOUT != 0));
                    }
                }
            }
            self.tend_lanes(&lanes);
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
        for (lane, state) in &self.lanes {
            if let LaneState::Alive(executor) = state {
                let writing = if executor.has_backlog() {
                    libc::POLLOUT
                } else {
                    0
                };
                let reading = if self.may_speak(*lane) { reading } else { 0 };
                if reading | writing != 0 {
                    add(executor.fd(), reading | writing, Source::Lane(*lane));
                }
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let lanes = self
            .lanes
            .values()
            .filter_map(|state| state.alive()?.deadline());
        let doomed = self.doomed.values().copied();
        let announce = (self.transport.kind == Kind::Line && self.session.is_none())
            .then(|| self.announced + ANNOUNCE);
        let power = self.duties.power.look_again();
        let next = lanes
            .chain(doomed)
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
            FrameKind::Answer => self.duties.asks.answer(&frame),
            FrameKind::Request => self.request(frame),
            FrameKind::Cancel if frame.lane == Lane::AGENT => {
                self.arriving.remove(&(frame.lane, frame.call));
                self.cancel_task(frame.call);
            }
            FrameKind::Cancel => self.cancel(&frame),
            FrameKind::Data | FrameKind::End | FrameKind::Credit => {
                let lane = self
                    .lanes
                    .get_mut(&frame.lane)
                    .and_then(LaneState::alive_mut);
                if let Some(executor) = lane
                    && executor.calls.contains_key(&frame.call)
                {
                    executor.send(&frame, None);
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
        let refusal = match self.lanes.get(&frame.lane) {
            None => Some(failure::no_such_lane(frame.lane)),
            Some(state) => state.refusal(),
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
        if let Some(executor) = self
            .lanes
            .get_mut(&frame.lane)
            .and_then(LaneState::alive_mut)
        {
            if first {
                let call = OpenCall {
                    owner: Owner::Host,
                    cancelled: None,
                    process: None,
                };
                executor.calls.insert(frame.call, call);
            }
            executor.send(&frame, None);
        }
    }

    fn cancel(&mut self, frame: &Frame) {
        if let Some(executor) = self
            .lanes
            .get_mut(&frame.lane)
            .and_then(LaneState::alive_mut)
            && let Some(call) = executor.calls.get_mut(&frame.call)
            && call.cancelled.is_none()
        {
            call.cancelled = Some(Instant::now());
            executor.send(frame, None);
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

    /// Takes what lanes have, a few packets each; who is first changes.
    fn tend_lanes(&mut self, ready: &BTreeSet<(Lane, bool)>) {
        self.turn = self.turn.wrapping_add(1);
        let count = ready.len();
        let start = if count == 0 { 0 } else { self.turn % count };
        for (lane, writable) in ready.iter().cycle().skip(start).take(count) {
            if *writable
                && let Some(executor) = self.lanes.get_mut(lane).and_then(LaneState::alive_mut)
            {
                executor.flush();
            }
            for _ in 0..TURN {
                if !self.out.has_room() || !self.may_speak(*lane) || !self.take_packet(*lane) {
                    break;
                }
            }
        }
    }

    /// Takes one packet of a lane; false when there was none.
    pub(super) fn take_packet(&mut self, lane: Lane) -> bool {
        let Some(LaneState::Alive(executor)) = self.lanes.get_mut(&lane) else {
            return false;
        };
        let Some(packet) = executor.receive(&mut self.buffer) else {
            return false;
        };
        let Some(upward) = lanes::inspect(packet, lane) else {
            executor.kill();
            self.lane_ended(lane, "wrote nonsense to the agent's socket and was stopped");
            return true;
        };
        if upward.more {
            self.speaking.insert(lane);
        } else {
            self.speaking.remove(&lane);
        }
        let ends = upward.kind == FrameKind::Reply && !upward.more;
        let owner = executor.calls.get(&upward.call).map(|call| call.owner);
        if ends {
            executor.calls.remove(&upward.call);
        }
        if upward.kind == FrameKind::Event && owner.is_some() {
            executor.note_process(upward.call, &packet[HEADER_LEN..]);
        }
        // What follows may take packets itself, so it gets a copy and leaves the buffer alone.
        match owner {
            Some(Owner::Host) => self.out.push(packet),
            Some(Owner::Task(task)) if upward.kind == FrameKind::Reply => {
                let payload = packet[HEADER_LEN..].to_vec();
                self.inner_reply(task, upward.call, upward.more, payload);
            }
            None if upward.call == CallId(0) && ends => {
                let payload = packet[HEADER_LEN..].to_vec();
                self.worker_reports(lane, &payload);
            }
            Some(Owner::Task(_)) | None => {}
        }
        true
    }

    /// Answers what was open on a lane whose process has ended, and replaces it if it is the VM's.
    pub(super) fn lane_ended(&mut self, lane: Lane, how: &str) {
        self.speaking.remove(&lane);
        let Some(LaneState::Alive(executor)) = self.lanes.remove(&lane) else {
            return;
        };
        let Executor {
            calls,
            starting,
            leaving,
            ..
        } = executor;
        if let Some(task) = starting {
            self.finish_task(task, Err(failure::lane_died(how)));
        }
        for ((_, _), arrival) in self.arriving.iter_mut().filter(|((on, _), _)| *on == lane) {
            *arrival = Arrival::Void;
        }
        let mut inner = Vec::new();
        for (id, call) in calls {
            call.end_process();
            let error = match (call.cancelled, leaving) {
                (Some(_), _) => failure::cancelled(),
                (None, Some(_)) => failure::no_such_lane(lane),
                (None, None) => failure::lane_died(how),
            };
            match call.owner {
                Owner::Host => self.refuse(lane, id, error),
                Owner::Task(task) => inner.push((task, id, error)),
            }
        }
        match leaving {
            Some((Leaving::Retired(task), _)) => {
                if let Some(task) = task {
                    self.finish_task(task, Ok(provium_protocol::Reply::Done));
                }
            }
            None if lane < Lane::FIRST_WORKER => self.start_lane(lane),
            None => {
                self.lanes.insert(lane, LaneState::Dead(how.to_owned()));
            }
        }
        // Last: a task may go on with the lane at once.
        for (task, id, error) in inner {
            self.inner_reply(task, id, false, codec::encode::<OpResult>(&Err(error)));
        }
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
        let stuck: Vec<Lane> = self
            .lanes
            .iter()
            .filter(|(_, state)| {
                state
                    .alive()
                    .and_then(Executor::deadline)
                    .is_some_and(|until| now >= until)
            })
            .map(|(lane, _)| *lane)
            .collect();
        for lane in stuck {
            if let Some(executor) = self.lanes.get(&lane).and_then(LaneState::alive) {
                executor.kill();
            }
            self.lane_ended(lane, "could not be interrupted and was killed");
        }
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
