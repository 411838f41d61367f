//! A VM brought to a standstill, so that it can be written down.

use crate::save::VmFacts;
use camino::Utf8Path;
use provium_guest::{CallError, Channel, QuiescedChannel};
use provium_vmm::{Machine, MachineEvent, SaveForm, VmmError};
use std::io;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};

/// A machine that stands still, with its agent quiet. Dropped before [`Held::let_go`], the machine
/// stays where it is.
pub(crate) struct Held<'a> {
    machine: &'a Machine,
    quiet: QuiescedChannel,
}

/// Why a VM could not be saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldError {
    #[error("its agent cannot be quiesced")]
    Agent(#[source] CallError),
    #[error("its agent does not come to rest within {0:?}")]
    Restless(Duration),
    #[error("the guest sleeps (S3); wake it first, with wakeup()")]
    Asleep,
    #[error(transparent)]
    Machine(#[from] VmmError),
    #[error("its folder cannot be written")]
    Folder(#[from] io::Error),
}

impl<'a> Held<'a> {
    /// How long an agent may take to come to rest, before patience.
    pub(crate) const LIMIT: Duration = Duration::from_secs(10);

    /// Brings it to a standstill; `limit` is how long its agent may take to come to rest. Must not be
    /// dropped before it is done: nobody would let the machine go on.
    pub(crate) async fn hold(
        machine: &'a Machine,
        channel: &Channel,
        limit: Duration,
    ) -> Result<Self, HoldError> {
        let mut events = machine.events();
        if machine.is_suspended().await? {
            return Err(HoldError::Asleep);
        }
        let quiet = tokio::select! {
            biased;
            quiet = tokio::time::timeout(limit, channel.quiesce()) => quiet,
            // One that is about to sleep does not answer any more.
            () = suspended(&mut events) => return Err(HoldError::Asleep),
        };
        let quiet = quiet.map_err(|_| HoldError::Restless(limit))?;
        let quiet = quiet.map_err(HoldError::Agent)?;
        machine.pause().await?;
        Ok(Self { machine, quiet })
    }

    /// The machine's name.
    pub(crate) fn name(&self) -> &str {
        self.machine.name()
    }

    /// Writes it into `folder`; the bytes of RAM that were written.
    pub(crate) async fn save(
        &self,
        folder: &Utf8Path,
        form: SaveForm,
        facts: impl FnOnce(provium_guest::ChannelCheckpoint) -> VmFacts,
    ) -> Result<u64, HoldError> {
        let machine = self.machine.save(folder, form).await?;
        facts(self.quiet.checkpoint()).write(folder)?;
        Ok(machine.ram_bytes)
    }

    /// Lets it go on.
    pub(crate) async fn let_go(self) -> Result<(), HoldError> {
        self.machine.resume().await?;
        drop(self.quiet);
        Ok(())
    }
}

/// Waits until the guest goes to sleep.
async fn suspended(events: &mut broadcast::Receiver<MachineEvent>) {
    loop {
        match events.recv().await {
            Ok(MachineEvent::Suspended) => return,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            // The machine is gone, which its channel tells.
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}
