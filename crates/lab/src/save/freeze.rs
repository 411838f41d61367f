//! Freezes a VM so that it can be saved.

use crate::disk::{DrainGuard, ServedDisks};
use crate::save::VmManifest;
use camino::Utf8Path;
use provium_guest::{CallError, Channel, QuiescedChannel};
use provium_vmm::{Machine, MachineEvent, SaveForm, VmmError};
use std::io;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};

/// How long an agent may take to quiesce, before the timeout multiplier.
pub(crate) const QUIESCE_LIMIT: Duration = Duration::from_secs(10);

/// A VM whose agent is quiesced and whose vCPUs are stopped. Dropping it thaws the VM.
pub(crate) struct FrozenVm<'a> {
    machine: &'a Machine,
    quiesced: QuiescedChannel,
    /// Until the machine is resumed.
    drain: Option<DrainGuard>,
    /// Whether to resume the machine when this is dropped.
    resumes: bool,
}

/// Why a VM could not be frozen or saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FreezeError {
    #[error("cannot quiesce the agent")]
    Agent(#[source] CallError),
    #[error("the guest sleeps (S3); wake it first, with wakeup()")]
    Suspended,
    #[error(transparent)]
    Machine(#[from] VmmError),
    #[error("cannot write the folder of the saved VM")]
    Folder(#[from] io::Error),
}

impl<'a> FrozenVm<'a> {
    /// Freezes the VM. It sets no deadline; the caller does. Dropping the future leaves the VM running.
    pub(crate) async fn freeze(
        machine: &'a Machine,
        channel: &Channel,
        disks: &ServedDisks,
    ) -> Result<Self, FreezeError> {
        let mut events = machine.events();
        if machine.is_suspended().await? {
            return Err(FreezeError::Suspended);
        }
        let quiesced = tokio::select! {
            biased;
            quiesced = channel.quiesce() => quiesced.map_err(FreezeError::Agent)?,
            // A guest that is about to sleep does not answer any more.
            () = suspended(&mut events) => return Err(FreezeError::Suspended),
        };
        // Before the pause, which may have been sent when this future is dropped.
        let mut frozen = Self {
            machine,
            quiesced,
            drain: None,
            resumes: true,
        };
        let drain = frozen.drain.insert(disks.drain());
        machine.pause().await?;
        drain.set_paused();
        Ok(frozen)
    }

    /// The machine's name.
    pub(crate) fn name(&self) -> &str {
        self.machine.name()
    }

    /// Saves it in `folder`; returns the number of bytes of RAM that were written.
    pub(crate) async fn save(
        &self,
        folder: &Utf8Path,
        form: SaveForm,
        manifest: impl FnOnce(provium_guest::ChannelCheckpoint) -> VmManifest,
    ) -> Result<u64, FreezeError> {
        let machine = self.machine.save(folder, form).await?;
        manifest(self.quiesced.checkpoint()).write(folder)?;
        Ok(machine.ram_bytes)
    }

    /// Thaws it; returns when its vCPUs run.
    pub(crate) async fn thaw(mut self) -> Result<(), FreezeError> {
        self.drain = None;
        self.machine.resume().await?;
        self.resumes = false;
        Ok(())
    }

    /// Leaves it paused: the machine is about to be ended.
    pub(crate) fn stay_paused(mut self) {
        self.resumes = false;
    }
}

impl Drop for FrozenVm<'_> {
    fn drop(&mut self) {
        self.drain = None;
        if self.resumes {
            self.machine.queue_resume();
        }
    }
}

/// Waits until the guest goes to sleep.
async fn suspended(events: &mut broadcast::Receiver<MachineEvent>) {
    loop {
        match events.recv().await {
            Ok(MachineEvent::Suspended) => return,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            // The machine has ended, which its channel reports.
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}
