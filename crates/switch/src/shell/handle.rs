//! The handle of a running switch.
//!
//! Calls that wait return when the thread of the switch has done what they ask for. Those whose names end
//! in `_later` only queue it, for callers that cannot wait: a step that must not be interrupted, or a drop.
//! The thread carries out all of them in the order in which they were made.

use super::capture::Capture;
use super::clock::Clock;
use super::event_loop::{Command, EventLoop, FrozenSwitch, WAKER};
use super::recent::RecentFrame;
use crate::{Fabric, Output, PortId, PortSettings, Status, ThawError, Time, UnknownPort};
use bytes::Bytes;
use mio::{Poll, Waker};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// A running switch. Dropping it closes its sockets and ends its thread.
#[derive(Debug)]
pub struct Switch {
    queue: Queue,
    /// `None` while it is being dropped.
    thread: Option<JoinHandle<()>>,
}

/// Sends frames from one port. It does not keep the switch running.
#[derive(Debug, Clone)]
pub struct PortSender {
    port: PortId,
    queue: Queue,
}

/// The way to the thread.
#[derive(Debug, Clone)]
struct Queue {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

/// A switch could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The host lacks what it needs: descriptors or threads.
    #[error("cannot start an Ethernet switch")]
    Host(#[from] io::Error),
    /// The saved switch cannot be used.
    #[error("cannot restore an Ethernet switch")]
    Saved(#[from] ThawError),
}

/// The thread of the switch has ended, because the switch was dropped or a system call of its event loop
/// failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the Ethernet switch has stopped")]
pub struct SwitchStopped;

impl Switch {
    /// Starts a switch without ports. `seed` decides what its impairments draw.
    ///
    /// # Errors
    /// When the host has no descriptors or threads left.
    pub fn start(seed: u64) -> Result<Self, StartError> {
        let clock = Clock::started_at(Time::ZERO);
        Ok(Self::start_with(Fabric::new(seed), clock, Vec::new())?)
    }

    /// Restores a switch, which is frozen until [`Switch::resume`].
    ///
    /// Its ports exist under the ids that they had and are not connected: connect NICs with
    /// [`Switch::reconnect`], scripts, services and routers with [`Switch::reopen`], and then resume it. The
    /// ids of ports by name are in [`Switch::status`]. Frames in flight arrive after the time that was left.
    /// What a script had not read when the switch was frozen belongs to that script, and is not restored.
    ///
    /// # Errors
    /// When it was saved by another version or is damaged, and as [`Switch::start`].
    pub fn thaw(frozen: FrozenSwitch) -> Result<Self, StartError> {
        let (fabric, unsent) = frozen.into_parts();
        let (fabric, now) = Fabric::thaw(fabric)?;
        Ok(Self::start_with(fabric, Clock::stopped_at(now), unsent)?)
    }

    fn start_with(fabric: Fabric, clock: Clock, unsent: Vec<(PortId, Bytes)>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (commands, received) = channel();
        let mut events = EventLoop::new(poll, received, fabric, clock)?;
        events.hold(unsent);
        let thread = std::thread::Builder::new().name("switch".to_owned());
        // What ends it shows as `SwitchStopped` in the next call.
        let thread = thread.spawn(move || drop(events.run()))?;
        Ok(Self {
            queue: Queue { commands, waker },
            thread: Some(thread),
        })
    }

    /// Runs `change` on the fabric and passes on its deliveries.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn with<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Fabric, &mut Output) -> T + Send + 'static,
    ) -> Result<T, SwitchStopped> {
        self.call(|events| events.change(change)).await
    }

    /// As [`Switch::with`], without waiting for the result.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub fn change_later(
        &self,
        change: impl FnOnce(&mut Fabric, &mut Output) + Send + 'static,
    ) -> Result<(), SwitchStopped> {
        self.queue.push(|events| events.change(change))
    }

    /// Adds a port that is connected to a netdev of QEMU (`-netdev stream`) by this socket.
    ///
    /// # Errors
    /// When the switch has stopped, or has no descriptors left.
    pub async fn connect(&self, settings: PortSettings, socket: UnixStream) -> io::Result<PortId> {
        let connected = self.call(move |events| {
            let port = events.change(|fabric, _| fabric.add_port(settings));
            events.connect(port, socket).map(|()| port)
        });
        connected.await.map_err(io::Error::other)?
    }

    /// Connects a port to this socket, in place of what it was connected to.
    ///
    /// # Errors
    /// When the port does not exist, and as [`Switch::connect`].
    pub async fn reconnect(&self, port: PortId, socket: UnixStream) -> io::Result<()> {
        let connected = self.call(move |events| events.connect(port, socket));
        connected.await.map_err(io::Error::other)?
    }

    /// As [`Switch::reconnect`], without waiting. If the socket cannot be connected, it is closed, and
    /// [`Switch::is_connected`] is false.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub fn reconnect_later(&self, port: PortId, socket: UnixStream) -> Result<(), SwitchStopped> {
        self.queue.push(move |events| {
            let _ = events.connect(port, socket);
        })
    }

    /// Closes the socket or queue of a port. The port stays, with its rules; what it is sent is dropped.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn disconnect(&self, port: PortId) -> Result<(), SwitchStopped> {
        self.call(move |events| events.disconnect(port)).await
    }

    /// Whether the other end of the port's socket is open.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn is_connected(&self, port: PortId) -> Result<bool, SwitchStopped> {
        self.call(move |events| events.is_connected(port)).await
    }

    /// Removes a port and closes its socket.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn remove(&self, port: PortId) -> Result<Result<(), UnknownPort>, SwitchStopped> {
        self.call(move |events| events.remove(port)).await
    }

    /// As [`Switch::remove`], without waiting.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub fn remove_later(&self, port: PortId) -> Result<(), SwitchStopped> {
        self.queue.push(move |events| {
            let _ = events.remove(port);
        })
    }

    /// Adds a port that belongs to the caller, who receives its frames with the time of their arrival
    /// since the epoch. What exceeds [`FRAME_QUEUE`](super::FRAME_QUEUE) is dropped.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn open(
        &self,
        settings: PortSettings,
    ) -> Result<(PortId, mpsc::Receiver<(Duration, Bytes)>), SwitchStopped> {
        let opened = self.call(|events| {
            let port = events.change(|fabric, _| fabric.add_port(settings));
            events.connect_queue(port).map(|frames| (port, frames))
        });
        // The port has just been added.
        opened.await?.map_err(|UnknownPort(_)| SwitchStopped)
    }

    /// Gives a port to the caller, as [`Switch::open`] does, in place of what it was connected to.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn reopen(
        &self,
        port: PortId,
    ) -> Result<Result<mpsc::Receiver<(Duration, Bytes)>, UnknownPort>, SwitchStopped> {
        self.call(move |events| events.connect_queue(port)).await
    }

    /// Sends a frame from a port. A frozen switch holds it until it is resumed.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn send(
        &self,
        port: PortId,
        frame: Bytes,
    ) -> Result<Result<(), UnknownPort>, SwitchStopped> {
        self.call(move |events| events.send(port, frame)).await
    }

    /// What sends frames from a port without waiting.
    #[must_use]
    pub fn sender(&self, port: PortId) -> PortSender {
        PortSender {
            port,
            queue: self.queue.clone(),
        }
    }

    /// Captures the frames of a port, in both directions, or, with `None`, all frames of the switch, each
    /// when it comes from its port. It ends when the [`Capture`] is dropped or closed.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn capture(&self, port: Option<PortId>) -> Result<Capture, SwitchStopped> {
        self.call(move |events| events.capture(port)).await
    }

    /// The state of all ports and paths.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn status(&self) -> Result<Status, SwitchStopped> {
        self.with(|fabric, _| fabric.status()).await
    }

    /// The last frames that arrived or were dropped, oldest first.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn recent(&self) -> Result<Vec<RecentFrame>, SwitchStopped> {
        self.call(|events| events.recent()).await
    }

    /// Stops reading, delivering and the time of the switch, and returns its state. It continues with
    /// [`Switch::resume`].
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn freeze(&self) -> Result<FrozenSwitch, SwitchStopped> {
        self.call(EventLoop::freeze).await
    }

    /// Ends [`Switch::freeze`].
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn resume(&self) -> Result<(), SwitchStopped> {
        self.call(EventLoop::resume).await
    }

    /// As [`Switch::resume`], without waiting.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub fn resume_later(&self) -> Result<(), SwitchStopped> {
        self.queue.push(EventLoop::resume)
    }

    async fn call<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut EventLoop) -> T + Send + 'static,
    ) -> Result<T, SwitchStopped> {
        let (reply, result) = oneshot::channel();
        self.queue
            .push(move |events| drop(reply.send(run(events))))?;
        result.await.map_err(|_| SwitchStopped)
    }
}

impl PortSender {
    /// The port.
    #[must_use]
    pub fn port(&self) -> PortId {
        self.port
    }

    /// Sends frames, in this order. Those of a port that was removed are dropped.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub fn send(&self, frames: impl IntoIterator<Item = Bytes>) -> Result<(), SwitchStopped> {
        let (port, frames) = (self.port, frames.into_iter().collect::<Vec<_>>());
        self.queue.push(move |events| {
            for frame in frames {
                let _ = events.send(port, frame);
            }
        })
    }
}

impl PortSender {
    /// Removes the port.
    pub(super) fn remove_port(&self) {
        let port = self.port;
        // A switch that has stopped has no ports.
        let _ = self.queue.push(move |events| {
            let _ = events.remove(port);
        });
    }
}

impl Queue {
    fn push(&self, run: impl FnOnce(&mut EventLoop) + Send + 'static) -> Result<(), SwitchStopped> {
        self.commands
            .send(Box::new(run))
            .map_err(|_| SwitchStopped)?;
        self.waker.wake().map_err(|_| SwitchStopped)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // An error means that the thread has ended.
        let _ = self.queue.push(EventLoop::end);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
