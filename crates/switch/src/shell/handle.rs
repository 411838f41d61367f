//! The handle of a running switch.

use super::event_loop::{CapturedFrame, Command, EventLoop, FrozenSwitch, WAKER};
use crate::{Fabric, Output, PortId, PortSettings, ThawError, Time, UnknownPort};
use bytes::Bytes;
use mio::{Poll, Waker};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// A running switch. Dropping it closes its sockets and ends its thread.
#[derive(Debug)]
pub struct Switch {
    /// `None` while it is being dropped.
    commands: Option<Sender<Command>>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
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

/// The thread of the switch has ended, because a system call of its event loop failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the Ethernet switch has stopped")]
pub struct Stopped;

impl Switch {
    /// Starts a switch without ports. `seed` decides what its impairments draw.
    ///
    /// # Errors
    /// When the host has no descriptors or threads left.
    pub fn start(seed: u64) -> Result<Self, StartError> {
        Ok(Self::start_with(Fabric::new(seed), Time::ZERO, Vec::new())?)
    }

    /// Restores a switch. Its ports exist and are not connected; frames in flight arrive after the
    /// time that was left, so connect the ports before the guests run.
    ///
    /// # Errors
    /// When it was saved by another version or is damaged, and as [`Switch::start`].
    pub fn thaw(frozen: FrozenSwitch) -> Result<Self, StartError> {
        let (fabric, unsent) = frozen.into_parts();
        let (fabric, now) = Fabric::thaw(fabric)?;
        Ok(Self::start_with(fabric, now, unsent)?)
    }

    fn start_with(fabric: Fabric, now: Time, unsent: Vec<(PortId, Bytes)>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let (commands, received) = channel();
        let mut events = EventLoop::new(poll, received, fabric, now)?;
        events.hold(unsent);
        let thread = std::thread::Builder::new().name("switch".to_owned());
        // What ends it shows as `Stopped` in the next call.
        let thread = thread.spawn(move || drop(events.run()))?;
        Ok(Self {
            commands: Some(commands),
            waker,
            thread: Some(thread),
        })
    }

    /// Runs `change` on the fabric and passes on what comes of it.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn with<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Fabric, &mut Output) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.call(|events| events.change(change)).await
    }

    /// Adds a port that is connected to a netdev of QEMU (`-netdev stream`) by this socket.
    ///
    /// # Errors
    /// When the switch has stopped, or has no descriptors left.
    pub async fn connect(&self, settings: PortSettings, socket: UnixStream) -> io::Result<PortId> {
        let port = self.with(|fabric, _| fabric.add_port(settings)).await;
        let port = port.map_err(io::Error::other)?;
        self.reconnect(port, socket).await?;
        Ok(port)
    }

    /// Connects a port to this socket, in place of the one that it had.
    ///
    /// # Errors
    /// As [`Switch::connect`].
    pub async fn reconnect(&self, port: PortId, socket: UnixStream) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let socket = mio::net::UnixStream::from_std(socket);
        let connected = self.call(move |events| events.connect(port, socket)).await;
        connected.map_err(io::Error::other)?
    }

    /// Whether the other end of the port's socket is open.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn is_connected(&self, port: PortId) -> Result<bool, Stopped> {
        self.call(move |events| events.is_connected(port)).await
    }

    /// Removes a port and closes its socket.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn remove(&self, port: PortId) -> Result<Result<(), UnknownPort>, Stopped> {
        self.call(move |events| {
            events.disconnect(port);
            events.change(|fabric, output| fabric.remove_port(port, output))
        })
        .await
    }

    /// Adds a port that belongs to the caller, who receives its frames with the time of their arrival
    /// since the epoch. What exceeds [`FRAME_QUEUE`](super::FRAME_QUEUE) is dropped.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn open(
        &self,
        settings: PortSettings,
    ) -> Result<(PortId, mpsc::Receiver<(Duration, Bytes)>), Stopped> {
        self.call(|events| {
            let port = events.change(|fabric, _| fabric.add_port(settings));
            (port, events.connect_queue(port))
        })
        .await
    }

    /// Sends a frame from a port.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn send(
        &self,
        port: PortId,
        frame: Bytes,
    ) -> Result<Result<(), UnknownPort>, Stopped> {
        self.call(move |events| events.send(port, frame)).await
    }

    /// Captures the frames of a port, in both directions, or, with `None`, all frames of the switch, each
    /// when it comes from its port. It ends when the receiver is dropped.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn capture(
        &self,
        port: Option<PortId>,
    ) -> Result<mpsc::Receiver<CapturedFrame>, Stopped> {
        self.call(move |events| events.capture(port)).await
    }

    /// Stops reading, delivering and the time of the switch, and returns its state. It continues with
    /// [`Switch::resume`].
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn freeze(&self) -> Result<FrozenSwitch, Stopped> {
        self.call(EventLoop::freeze).await
    }

    /// Ends [`Switch::freeze`].
    ///
    /// # Errors
    /// When the switch has stopped.
    pub async fn resume(&self) -> Result<(), Stopped> {
        self.call(EventLoop::resume).await
    }

    async fn call<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut EventLoop) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, result) = oneshot::channel();
        let command: Command = Box::new(move |events| drop(reply.send(run(events))));
        let commands = self.commands.as_ref().ok_or(Stopped)?;
        commands.send(command).map_err(|_| Stopped)?;
        self.waker.wake().map_err(|_| Stopped)?;
        result.await.map_err(|_| Stopped)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.commands = None;
        if self.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}
