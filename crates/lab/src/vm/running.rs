//! A machine with its agent's session, and what is told of its end.

use crate::error::LabError;
use crate::lock::lock;
use crate::save::Base;
use crate::vm::handle::Vm;
use crate::vm::timeline::Mark;
use provium_events::{BootKind, Event};
use provium_guest::{Channel, LaneHandle};
use provium_pool::Grant;
use provium_protocol::Lane;
use provium_vmm::Machine;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// How much of the console goes into an error about a VM that has died, bytes.
const CONSOLE_SHOWN: usize = 1024;

/// How much of it goes into the error of a boot, bytes: a panic's registers and call trace, and what
/// was said before them.
const BOOT_CONSOLE_SHOWN: usize = 8192;

/// What the agent puts before its words on the console.
const AGENT_SAYS: &str = "provium-agent: ";

/// A VM that runs.
pub(crate) struct Running {
    pub(crate) machine: Machine,
    pub(crate) channel: Channel,
    pub(crate) number: MachineNumber,
    /// How it came to be.
    pub(crate) boot_kind: BootKind,
    /// The profile that its guest was booted from: the VM's, or that of the snapshot's VM.
    pub(crate) profile: String,
    /// Whose RAM it shares.
    pub(crate) base: Option<Arc<Base>>,
    pub(crate) cid: u32,
    pub(crate) booted_at: Instant,
    pub(crate) boot_time: Duration,
    pub(crate) grant: Mutex<Option<Grant>>,
    pub(crate) watch: Mutex<Option<AbortHandle>>,
    /// When its power button was pressed, since the guest's last boot.
    pub(crate) pressed: Mutex<Option<Instant>>,
}

/// Tells apart the machines that a VM runs on in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MachineNumber(u64);

impl MachineNumber {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a call needs to talk to the guest.
pub(crate) struct Session {
    pub(crate) running: Arc<Running>,
    pub(crate) mark: Mark,
}

impl Session {
    pub(crate) fn lane(&self, lane: Lane) -> LaneHandle {
        self.running.channel.lane(lane)
    }
}

/// How a VM died.
#[derive(Debug)]
pub(crate) struct DeathReport {
    pub(crate) how: String,
    pub(crate) console: String,
}

impl DeathReport {
    pub(crate) fn error(&self, subject: String, call: String) -> LabError {
        LabError::Dead {
            subject,
            call,
            how: self.how.clone(),
            console: self.console.clone(),
        }
    }
}

impl Running {
    /// Gives memory and processors back.
    pub(crate) fn release(&self) {
        drop(lock(&self.grant).take());
    }

    pub(crate) fn stop_watch(&self) {
        let watch = lock(&self.watch).take();
        if let Some(watch) = watch {
            watch.abort();
        }
    }
}

impl Vm {
    /// How the guest ended, with the kernel's own reason where it panicked, and what the agent said of it.
    pub(crate) fn with_reason(&self, how: String) -> String {
        let Some(reason) = self.console().panic_reason() else {
            return how;
        };
        match self.agent_complaint() {
            Some(complaint) => format!("{how}: {reason} (the agent said: {complaint})"),
            None => format!("{how}: {reason}"),
        }
    }

    /// The last thing that the agent said on the console.
    fn agent_complaint(&self) -> Option<String> {
        let tail = self.console().tail(2 * BOOT_CONSOLE_SHOWN);
        let at = tail.rfind(AGENT_SAYS)? + AGENT_SAYS.len();
        let line = tail[at..].lines().next()?.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// The end of the console, for the error of a VM that has died.
    pub(crate) fn console_tail(&self) -> String {
        self.console().tail(CONSOLE_SHOWN)
    }

    /// The end of the console, for the error of a boot.
    pub(crate) fn boot_console_tail(&self) -> String {
        self.console().settle();
        self.console().tail(BOOT_CONSOLE_SHOWN)
    }

    /// Tells that a VM of `running` is no more.
    pub(crate) fn emit_shutdown(&self, running: &Running) {
        let elapsed = running.booted_at.elapsed();
        self.environment().sink().emit(Event::VmShutdown {
            file: self.0.file.path.clone(),
            vm_name: self.name().to_owned(),
            duration_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
        });
    }
}
