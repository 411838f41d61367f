//! What the supervisor of a machine reports: events, and the end.

use std::sync::atomic::AtomicBool;

use tokio::sync::{broadcast, watch};

use crate::death::Death;

/// Events that are kept for a subscriber that is slow to take them.
const EVENT_BACKLOG: usize = 64;

/// Something that happened to a machine, after which it still exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineEvent {
    /// The guest reset the machine, and boots again.
    Rebooted,
    /// The host reset it.
    Reset,
    /// The guest's kernel panicked, and its vCPUs run on, as [`PanicAction::Continue`] asks.
    Panicked,
    /// Its vCPUs stopped.
    Paused,
    /// Its vCPUs run again.
    Resumed,
    /// The guest suspended to RAM (S3).
    Suspended,
    /// It was woken from S3.
    Woken,
    /// The guest closed the agent's virtio port: the agent, or its driver, is gone. A reset closes it
    /// as well.
    PortClosed,
    /// The guest opened the agent's virtio port.
    PortOpened,
}

/// What QEMU does when a guest reports that its kernel panicked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PanicAction {
    /// It stops the vCPUs: the machine has ended.
    #[default]
    Pause,
    /// It lets the kernel do what its `panic=` says.
    Continue,
}

/// The state that the supervisor publishes to all handles.
#[derive(Debug)]
pub(super) struct MachineStatus {
    pub(super) ended: watch::Sender<Option<Death>>,
    /// The process is reaped and the console complete.
    pub(super) gone: watch::Sender<bool>,
    pub(super) events: broadcast::Sender<MachineEvent>,
    /// How often the guest has reset the machine.
    pub(super) reboots: watch::Sender<u64>,
    /// The agent has answered since the last reset, so the next one is not the firmware's echo.
    pub(super) is_up: AtomicBool,
    /// The owner ends the machine.
    pub(super) quitting: AtomicBool,
}

impl MachineStatus {
    pub(super) fn new() -> Self {
        Self {
            ended: watch::Sender::new(None),
            gone: watch::Sender::new(false),
            events: broadcast::Sender::new(EVENT_BACKLOG),
            reboots: watch::Sender::new(0),
            is_up: AtomicBool::new(false),
            quitting: AtomicBool::new(false),
        }
    }

    /// Reports the end; only the first one counts.
    pub(super) fn end(&self, death: Death) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(death);
            first
        });
    }
}
