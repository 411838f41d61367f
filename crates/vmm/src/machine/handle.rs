//! The handle on a running machine.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use provium_process::Killer;
use provium_qmp::Version;
use serde_json::{Value, json};
use tokio::sync::{Mutex as AsyncMutex, broadcast, mpsc, watch};
use tokio::time::timeout;

use super::control::Control;
use super::devices::{Disks, Nics};
use super::guest_end::GuestEndWatch;
use super::start::AgentStreams;
use super::status::{MachineEvent, MachineStatus, PanicAction};
use crate::console::{ConsoleLog, FailureHint};
use crate::death::Death;
use crate::error::VmmError;
use crate::saved::GuestMemory;
use crate::spec::MachineSpec;
use crate::usage::{self, Usage};

/// How long QEMU may take to end by itself before it is killed.
const QUIT_DEADLINE: Duration = Duration::from_secs(3);

/// A running machine. Dropping it kills QEMU; [`Machine::quit`] ends it properly.
///
/// Many methods because each command to QEMU is one, and commands need what is private to this handle.
#[derive(Debug)]
pub struct Machine {
    pub(super) spec: MachineSpec,
    /// See [`supports_s3`](super::supports_s3).
    pub(super) supports_s3: bool,
    /// Of the QEMU that runs it.
    pub(super) version: Version,
    pub(super) memory: GuestMemory,
    /// Whether it was restored, so that its RAM file is a saved machine's.
    pub(super) has_base: bool,
    pub(super) initrd: Option<File>,
    /// Bytes of the seeded random stream that the guest has read.
    pub(super) rng_served: Arc<AtomicU64>,
    pub(super) nics: Arc<Nics>,
    pub(super) disks: Arc<Disks>,
    pub(super) pid: u32,
    pub(super) control: Control,
    pub(super) killer: Killer,
    pub(super) console: ConsoleLog,
    /// The length of the console's log when the machine began to print to it, bytes.
    pub(super) console_start: u64,
    pub(super) streams: Mutex<Option<AgentStreams>>,
    pub(super) hints: AsyncMutex<mpsc::Receiver<FailureHint>>,
    pub(super) status: Arc<MachineStatus>,
    pub(super) guest_end: GuestEndWatch,
}

impl Machine {
    /// The streams to the agent; they are given once.
    pub fn take_agent_streams(&self) -> Option<AgentStreams> {
        self.streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The guest's console.
    pub fn console(&self) -> ConsoleLog {
        self.console.clone()
    }

    /// How the machine ended, once it has. Its console is complete by then.
    pub fn ended(&self) -> watch::Receiver<Option<Death>> {
        self.status.ended.subscribe()
    }

    /// Tells the servers of its disks whether the guest has ended, before this is reported by [`Self::ended`].
    pub fn guest_end(&self) -> GuestEndWatch {
        self.guest_end.clone()
    }

    /// The next failure hint from the console. Each is returned once and kept until then, so that none is
    /// lost between two callers that watch the machine one after the other. Pending forever once the console
    /// has ended.
    pub async fn failure_hint(&self) -> FailureHint {
        match self.hints.lock().await.recv().await {
            Some(hint) => hint,
            None => std::future::pending().await,
        }
    }

    /// Drops the hints that are kept: they belong to a boot that is over.
    pub async fn clear_failure_hints(&self) {
        let mut hints = self.hints.lock().await;
        while hints.try_recv().is_ok() {}
    }

    /// Events from now on.
    pub fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.status.events.subscribe()
    }

    /// How often the guest has reset the machine since it was started.
    pub fn reboots(&self) -> watch::Receiver<u64> {
        self.status.reboots.subscribe()
    }

    /// Records that the guest's agent has answered: the firmware is done, so the next reset is the guest's own
    /// and not an echo of the one before, however soon it comes.
    pub fn mark_agent_up(&self) {
        self.status.is_up.store(true, Ordering::Release);
    }

    /// The name that messages use.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The number of its vCPUs.
    pub fn cpus(&self) -> u32 {
        self.spec.cpus
    }

    /// Its RAM, bytes.
    pub fn memory(&self) -> u64 {
        self.spec.memory
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The host's resources that QEMU uses.
    ///
    /// # Errors
    /// [`VmmError::Usage`] once the process is gone.
    pub fn usage(&self) -> Result<Usage, VmmError> {
        let usage = if *self.status.gone.borrow() {
            Err(io::Error::from(io::ErrorKind::NotFound))
        } else {
            usage::of_process(self.pid)
        };
        usage.map_err(|source| VmmError::Usage {
            machine: self.spec.name.clone(),
            source,
        })
    }

    /// Whether QEMU itself is stopped, by SIGSTOP or by a tracer.
    pub fn is_stopped(&self) -> bool {
        !*self.status.gone.borrow() && usage::is_stopped(self.pid)
    }

    /// Stops its vCPUs; returns when they have stopped, and its disks have carried out all commands. The last command
    /// to each disk is a flush of QEMU's own.
    ///
    /// # Errors
    /// This and the following: [`VmmError::Control`] if QEMU refuses or is gone,
    /// [`VmmError::Unresponsive`] if it does not answer.
    pub async fn pause(&self) -> Result<(), VmmError> {
        self.control.command("stop").await
    }

    /// Starts its vCPUs, or continues them.
    ///
    /// # Errors
    /// As [`Machine::pause`].
    pub async fn resume(&self) -> Result<(), VmmError> {
        self.control.command("cont").await
    }

    /// Queues a [`resume`](Machine::resume) behind all commands that were given so far, and does not wait for
    /// it: for destructors.
    pub fn queue_resume(&self) {
        self.control.queue("cont", &Value::Null);
    }

    /// Queues the choice of what QEMU does when the guest's kernel panics, behind all commands that were given
    /// so far. A new machine has the default.
    pub fn queue_panic_action(&self, action: PanicAction) {
        let action = match action {
            PanicAction::Pause => "pause",
            PanicAction::Continue => "none",
        };
        self.control
            .queue("set-action", &json!({ "panic": action }));
    }

    /// Whether the guest sleeps (S3).
    ///
    /// # Errors
    /// As [`Machine::pause`].
    pub async fn is_suspended(&self) -> Result<bool, VmmError> {
        self.control.is_suspended().await
    }

    /// Presses the reset button; does not wait for the guest to boot.
    ///
    /// # Errors
    /// As [`Machine::pause`].
    pub async fn reset(&self) -> Result<(), VmmError> {
        let was_suspended = self.is_suspended().await?;
        self.control.command("system_reset").await?;
        if was_suspended {
            // QEMU leaves a machine stopped that did not run before its reset.
            self.resume().await?;
        }
        Ok(())
    }

    /// Presses the ACPI power button; the guest decides what it does then.
    ///
    /// # Errors
    /// As [`Machine::pause`].
    pub async fn power_button(&self) -> Result<(), VmmError> {
        self.control.command("system_powerdown").await
    }

    /// Whether the guest survives being woken from S3; see [`supports_s3`](super::supports_s3).
    pub fn can_resume_from_s3(&self) -> bool {
        self.supports_s3
    }

    /// Ends the machine; returns when its process is reaped. Does nothing if it has ended.
    pub async fn quit(&self) {
        let mut gone = self.status.gone.subscribe();
        self.status.quitting.store(true, Ordering::Relaxed);
        let ended = timeout(QUIT_DEADLINE, async {
            // The end of the process counts, and not the reply.
            let reply = self.control.client().execute("quit", Value::Null).await;
            tracing::debug!(machine = self.spec.name, ?reply, "quit");
            gone.wait_for(|gone| *gone).await.is_ok()
        });
        if ended.await.is_err() {
            self.killer.kill();
            // An error means that the supervisor is gone, and with it the child.
            let _ = gone.wait_for(|gone| *gone).await;
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.status.quitting.store(true, Ordering::Relaxed);
        self.killer.kill_and_reap();
    }
}
