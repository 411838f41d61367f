//! A port that belongs to a task of the host.

use super::handle::{PortSender, Switch, SwitchStopped};
use crate::{PortId, PortSettings, UnknownPort};
use bytes::Bytes;
use std::task::{Context, Poll};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::mpsc;

/// A port whose frames a task of the host sends and receives. Dropping it removes the port.
#[derive(Debug)]
pub struct OwnedPort {
    sender: PortSender,
    frames: mpsc::Receiver<(Duration, Bytes)>,
}

/// The port that a task takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortSource {
    /// One that is added.
    New(PortSettings),
    /// One that a restored switch has.
    Existing(PortId),
}

/// A port could not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The switch has stopped.
    #[error(transparent)]
    Stopped(#[from] SwitchStopped),
    /// The port does not exist.
    #[error(transparent)]
    UnknownPort(#[from] UnknownPort),
}

impl OwnedPort {
    /// Takes a port of a switch.
    ///
    /// # Errors
    /// When the switch has stopped, or does not have the port.
    pub async fn open(switch: &Switch, source: PortSource) -> Result<Self, OpenError> {
        let (port, frames) = match source {
            PortSource::New(settings) => switch.open(settings).await?,
            PortSource::Existing(port) => (port, switch.reopen(port).await??),
        };
        Ok(Self {
            sender: switch.sender(port),
            frames,
        })
    }

    /// The port.
    #[must_use]
    pub fn id(&self) -> PortId {
        self.sender.port()
    }

    /// The next frame, with its time of arrival since the epoch; `None` after the port was removed or
    /// connected to something else, or the switch has stopped.
    pub async fn recv(&mut self) -> Option<(Duration, Bytes)> {
        self.frames.recv().await
    }

    /// The next frame, if it has arrived already.
    pub fn try_recv(&mut self) -> Option<(Duration, Bytes)> {
        self.frames.try_recv().ok()
    }

    /// As [`OwnedPort::recv`], for tasks that wait for several ports.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<(Duration, Bytes)>> {
        self.frames.poll_recv(context)
    }

    /// Sends frames, in this order.
    ///
    /// # Errors
    /// When the switch has stopped.
    pub fn send(&self, frames: impl IntoIterator<Item = Bytes>) -> Result<(), SwitchStopped> {
        self.sender.send(frames)
    }
}

impl Drop for OwnedPort {
    fn drop(&mut self) {
        // The receiver is closed if the port was given to another owner, who keeps it.
        if !self.frames.is_closed() {
            self.sender.remove_port();
        }
    }
}
