//! The thread of a switch.

use super::capture::{Capture, Tap, capture};
use super::clock::{Clock, since_epoch};
use super::connection::{Connection, ReadOutcome};
use super::recent::{FrameOutcome, Recent, RecentFrame};
use crate::{Delivery, Fabric, FrozenFabric, Output, PortId, Time, UnknownPort};
use bytes::Bytes;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Frames that wait for a script that does not read, and frames that scripts send while the switch is frozen.
/// More is dropped.
pub const FRAME_QUEUE: usize = 4096;

pub(super) const WAKER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);
const EVENTS: usize = 64;

/// A request to the thread.
pub(super) type Command = Box<dyn FnOnce(&mut EventLoop) + Send>;

/// A saved switch: the fabric, and the frames that a socket has not taken yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FrozenSwitch {
    fabric: FrozenFabric,
    unsent: Vec<(PortId, Bytes)>,
}

pub(super) struct EventLoop {
    poll: Poll,
    timer: OwnedFd,
    /// What the timer is set to.
    armed: Option<Time>,
    commands: Receiver<Command>,
    clock: Clock,
    fabric: Fabric,
    output: Output,
    connections: BTreeMap<PortId, Connection>,
    /// Connections that may have more to read.
    readable: VecDeque<PortId>,
    /// Ports of scripts.
    queues: BTreeMap<PortId, mpsc::Sender<(Duration, Bytes)>>,
    taps: Vec<Tap>,
    recent: Recent,
    /// Frames of a restored switch that wait until it is resumed and their port is connected.
    unsent: BTreeMap<PortId, Vec<Bytes>>,
    /// Frames that scripts have sent while the time was stopped.
    held: Vec<(PortId, Bytes)>,
    is_ended: bool,
}

impl EventLoop {
    pub(super) fn new(
        poll: Poll,
        commands: Receiver<Command>,
        fabric: Fabric,
        clock: Clock,
    ) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let descriptor = timer.as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&descriptor), TIMER, Interest::READABLE)?;
        Ok(Self {
            poll,
            timer,
            armed: None,
            commands,
            clock,
            fabric,
            output: Output::with_drops(),
            connections: BTreeMap::new(),
            readable: VecDeque::new(),
            queues: BTreeMap::new(),
            taps: Vec::new(),
            recent: Recent::default(),
            unsent: BTreeMap::new(),
            held: Vec::new(),
            is_ended: false,
        })
    }

    /// Runs until the handle of the switch is dropped.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let has_more = self.clock.is_running() && !self.readable.is_empty();
            match self
                .poll
                .poll(&mut events, has_more.then_some(Duration::ZERO))
            {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            let mut is_open = true;
            for event in &events {
                match event.token() {
                    WAKER => is_open = self.run_commands(),
                    TIMER => {
                        let mut expirations = [0; 8];
                        let _ = rustix::io::read(&self.timer, &mut expirations);
                        self.armed = None;
                    }
                    Token(index) => {
                        let port = PortId(index as u32);
                        if event.is_readable() && !self.readable.contains(&port) {
                            self.readable.push_back(port);
                        }
                        if event.is_writable() {
                            self.flush(port);
                        }
                    }
                }
            }
            if !is_open {
                return Ok(());
            }
            if self.clock.is_running() {
                self.turn();
            }
        }
    }

    /// Whether the handle still exists.
    fn run_commands(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(command) => command(self),
                Err(TryRecvError::Empty) => return !self.is_ended,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Reads once from each connection that has something, and delivers what has arrived.
    fn turn(&mut self) {
        for _ in 0..self.readable.len() {
            let Some(port) = self.readable.pop_front() else {
                break;
            };
            if self.read(port) {
                self.readable.push_back(port);
            }
        }
        self.fabric.advance(self.clock.now(), &mut self.output);
        self.distribute();
        self.arm_timer();
    }

    /// Whether there may be more to read.
    fn read(&mut self, port: PortId) -> bool {
        let Some(connection) = self.connections.get_mut(&port) else {
            return false;
        };
        let now = self.clock.now();
        let Self {
            fabric,
            output,
            taps,
            ..
        } = self;
        let incoming = connection.read(|frame| {
            capture(taps, port, None, &frame);
            // The port of a connection exists: removing it removes the connection.
            let _ = fabric.receive(now, port, frame, output);
        });
        if incoming == ReadOutcome::End {
            self.disconnect(port);
        }
        incoming == ReadOutcome::Frames
    }

    /// Passes on what has arrived.
    fn distribute(&mut self) {
        let mut output = std::mem::take(&mut self.output);
        let drops = output.drops.iter_mut().flat_map(|drops| drops.drain(..));
        let mut touched = BTreeSet::new();
        let mut now = None;
        for dropped in drops {
            let now = *now.get_or_insert_with(since_epoch);
            self.recent.note_drop(now, &dropped);
        }
        for Delivery { from, to, frame } in &output.deliveries {
            let (from, to, now) = (*from, *to, *now.get_or_insert_with(since_epoch));
            capture(&mut self.taps, from, Some(to), frame);
            let outcome = if let Some(connection) = self.connections.get_mut(&to) {
                touched.insert(to);
                taken(connection.push(frame))
            } else if let Some(queue) = self.queues.get(&to) {
                let frame = Bytes::copy_from_slice(frame);
                taken(queue.try_send((now, frame)).is_ok())
            } else {
                FrameOutcome::NotConnected
            };
            if outcome != FrameOutcome::Delivered {
                self.fabric.count_rx_drop(to);
            }
            self.recent.note(now, from, to, frame, outcome);
        }
        if now.is_some() {
            self.recent.end_round();
        }
        output.deliveries.clear();
        self.output = output;
        for port in touched {
            self.flush(port);
        }
    }

    fn flush(&mut self, port: PortId) {
        if let Some(connection) = self.connections.get_mut(&port)
            && connection.flush().is_err()
        {
            self.disconnect(port);
        }
    }

    /// Sets the timer to the next arrival.
    fn arm_timer(&mut self) {
        let Some(due) = self.fabric.next_due() else {
            return;
        };
        if self.armed.is_some_and(|armed| armed <= due) {
            return;
        }
        // A timer that is set to zero is off.
        let left = due.since(self.clock.now()).max(Duration::from_nanos(1));
        let value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: value,
        };
        if rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).is_ok() {
            self.armed = Some(due);
        }
    }

    /// Runs a change of the fabric, and passes on its deliveries.
    pub(super) fn change<T>(&mut self, change: impl FnOnce(&mut Fabric, &mut Output) -> T) -> T {
        if self.clock.is_running() {
            self.fabric.advance(self.clock.now(), &mut self.output);
        }
        let result = change(&mut self.fabric, &mut self.output);
        self.distribute();
        self.arm_timer();
        result
    }

    /// Connects a port to a socket, in place of what it was connected to.
    pub(super) fn connect(&mut self, port: PortId, socket: UnixStream) -> io::Result<()> {
        let known = self.fabric.port_name(port).map(drop);
        known.map_err(|unknown| io::Error::new(io::ErrorKind::NotFound, unknown))?;
        self.disconnect(port);
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::UnixStream::from_std(socket);
        let token = Token(port.index());
        let interests = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut socket, token, interests)?;
        self.connections.insert(port, Connection::new(socket));
        self.readable.push_back(port);
        if self.clock.is_running() {
            self.send_unsent(port);
        }
        Ok(())
    }

    /// Passes on the frames of a restored switch that waited for this port.
    fn send_unsent(&mut self, port: PortId) {
        let Some(connection) = self.connections.get_mut(&port) else {
            return;
        };
        for frame in self.unsent.remove(&port).unwrap_or_default() {
            if !connection.push(&frame) {
                self.fabric.count_rx_drop(port);
            }
        }
        self.flush(port);
    }

    /// Closes the socket of a port. The port stays, and what it is sent is dropped.
    pub(super) fn disconnect(&mut self, port: PortId) {
        if let Some(mut connection) = self.connections.remove(&port) {
            let _ = self.poll.registry().deregister(&mut connection.socket);
        }
        self.readable.retain(|readable| *readable != port);
        self.queues.remove(&port);
    }

    /// Whether a socket is connected to the port.
    pub(super) fn is_connected(&self, port: PortId) -> bool {
        self.connections.contains_key(&port)
    }

    /// Connects a port to a queue, with the times of arrival since the epoch.
    pub(super) fn connect_queue(
        &mut self,
        port: PortId,
    ) -> Result<mpsc::Receiver<(Duration, Bytes)>, UnknownPort> {
        self.fabric.port_name(port)?;
        let (queue, frames) = mpsc::channel(FRAME_QUEUE);
        self.disconnect(port);
        self.queues.insert(port, queue);
        Ok(frames)
    }

    /// Sends a frame from a port; if the time is stopped, when it is resumed.
    pub(super) fn send(&mut self, port: PortId, frame: Bytes) -> Result<(), UnknownPort> {
        if !self.clock.is_running() {
            self.fabric.port_name(port)?;
            if self.held.len() < FRAME_QUEUE {
                self.held.push((port, frame));
            } else {
                self.fabric.count_tx_drop(port);
            }
            return Ok(());
        }
        let now = self.clock.now();
        capture(&mut self.taps, port, None, &frame);
        self.change(|fabric, output| fabric.receive(now, port, frame, output))
    }

    pub(super) fn capture(&mut self, port: Option<PortId>) -> Capture {
        let (tap, frames) = Capture::new(port);
        self.taps.push(tap);
        frames
    }

    pub(super) fn recent(&self) -> Vec<RecentFrame> {
        self.recent.list()
    }

    /// Removes a port with what belongs to it.
    pub(super) fn remove(&mut self, port: PortId) -> Result<(), UnknownPort> {
        self.disconnect(port);
        self.unsent.remove(&port);
        self.change(|fabric, output| fabric.remove_port(port, output))
    }

    /// Ends the thread after the commands that have arrived.
    pub(super) fn end(&mut self) {
        self.is_ended = true;
    }

    /// Stops the time, so that nothing is read or delivered, and returns the state.
    pub(super) fn freeze(&mut self) -> FrozenSwitch {
        if self.clock.is_running() {
            self.change(|_, _| ());
        }
        self.clock.stop();
        let waiting = self
            .unsent
            .iter()
            .flat_map(|(port, frames)| frames.iter().map(|f| (*port, f.clone())));
        let unsent = self.connections.iter();
        let unsent =
            unsent.flat_map(|(port, c)| c.unsent().into_iter().map(|frame| (*port, frame)));
        FrozenSwitch {
            fabric: self.fabric.freeze(self.clock.now()),
            unsent: waiting.chain(unsent).collect(),
        }
    }

    /// Starts the time, and passes on what has waited for that.
    pub(super) fn resume(&mut self) {
        self.clock.start();
        let waiting: Vec<PortId> = self.unsent.keys().copied().collect();
        for port in waiting {
            self.send_unsent(port);
        }
        for (port, frame) in std::mem::take(&mut self.held) {
            // A port that was removed since then has no frames to send.
            let _ = self.send(port, frame);
        }
        self.armed = None;
        self.arm_timer();
    }

    pub(super) fn hold(&mut self, unsent: Vec<(PortId, Bytes)>) {
        for (port, frame) in unsent {
            self.unsent.entry(port).or_default().push(frame);
        }
    }
}

impl FrozenSwitch {
    pub(super) fn into_parts(self) -> (FrozenFabric, Vec<(PortId, Bytes)>) {
        (self.fabric, self.unsent)
    }
}

fn taken(is_taken: bool) -> FrameOutcome {
    if is_taken {
        FrameOutcome::Delivered
    } else {
        FrameOutcome::ReceiverFull
    }
}
