//! A restored, paused machine that is not assigned to a VM yet.
//!
//! Starting QEMU and loading the saved state takes most of the time of a restore. A standby has done both:
//! the VM that needs the machine gives it a name and a console. No task supervises a standby; whether it has
//! died shows when it is used. Dropping it ends QEMU.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use camino::Utf8PathBuf;
use provium_qmp::QmpError;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::time::timeout;

use super::control::Control;
use super::handle::Machine;
use super::resets::Resets;
use super::start::{AgentStreams, LaunchRequest, QemuProcess};
use super::status::MachineStatus;
use super::supervisor::Supervisor;
use crate::console::ConsoleLog;
use crate::death::announced;
use crate::device::DiskDevice;
use crate::error::VmmError;
use crate::qemu::Qemu;
use crate::saved::SavedMachine;
use crate::spec::MachineSpec;

/// Failure hints that are kept until they are read.
const HINT_BACKLOG: usize = 16;

/// A restored, paused machine that is not assigned to a VM yet.
pub struct Standby {
    request: LaunchRequest,
    process: QemuProcess,
    control: Control,
    /// `None` once it was taken.
    streams: Option<AgentStreams>,
}

impl Standby {
    /// Starts QEMU, and loads the state of `saved`, which was booted from `kernel`. Its disks are `disks`, with
    /// placeholders: as many as the saved machine had, in the same slots, and read-only if those were; their serials
    /// may differ, and the guest reads these.
    ///
    /// # Errors
    /// As [`Machine::launch`]; [`VmmError::Specification`] for other disks; [`VmmError::Restore`] and
    /// [`VmmError::DiedAtStart`] when what is saved cannot be loaded: it is damaged, or was saved by another QEMU.
    pub async fn restore(
        saved: SavedMachine,
        name: String,
        kernel: Utf8PathBuf,
        disks: Vec<DiskDevice>,
        qemu: &Qemu,
    ) -> Result<Self, VmmError> {
        saved
            .check_version(qemu)
            .map_err(|source| VmmError::Restore {
                machine: name.clone(),
                source,
            })?;
        let mut spec = saved.spec(name, kernel);
        let saved_disks = std::mem::replace(&mut spec.disks, disks);
        if !are_alike(&saved_disks, &spec.disks) {
            return Err(VmmError::Specification {
                machine: spec.name,
                why: "its disks are not in the slots of the saved machine's, or not read-only as they were"
                    .to_owned(),
            });
        }
        Self::start(spec, Some(saved), qemu).await
    }

    /// Starts QEMU with a machine that has not run.
    pub(super) async fn start(
        spec: MachineSpec,
        saved: Option<SavedMachine>,
        qemu: &Qemu,
    ) -> Result<Self, VmmError> {
        let request = LaunchRequest::new(spec, saved).await?;
        let (process, streams) = request.run(qemu).await?;
        Ok(Self {
            control: Control::new(request.spec.name.clone(), process.client.clone()),
            request,
            process,
            streams: Some(streams),
        })
    }

    /// Its disks; the serials are what the guest reads.
    pub fn disks(&self) -> &[DiskDevice] {
        &self.request.spec.disks
    }

    /// Whether its QEMU still runs.
    pub fn is_alive(&self) -> bool {
        matches!(self.process.child.try_wait(), Ok(None))
    }

    /// The streams to the agent; they are given once.
    pub fn take_agent_streams(&mut self) -> Option<AgentStreams> {
        self.streams.take()
    }

    /// Gives each disk zeroes instead of its placeholder, `size` bytes, a multiple of 512, and reports the size to the
    /// guest. What the guest and QEMU do then for the first time, such as translating the driver's code, need not be
    /// done when the disk gets its content.
    ///
    /// # Errors
    /// As [`Machine::pause`]. The standby cannot be used then.
    pub async fn insert_blank_disks(&self, size: u64) -> Result<(), VmmError> {
        self.process.disks.insert_blanks(&self.control, size).await
    }

    /// Lets the guest run, before it is assigned to a VM. What it prints waits for the VM's console.
    ///
    /// # Errors
    /// As [`Machine::pause`].
    pub async fn resume(&self) -> Result<(), VmmError> {
        self.control.command("cont").await
    }

    /// Stops the guest again.
    ///
    /// # Errors
    /// As [`Machine::pause`]; when the guest has ended, or has reset the machine, meanwhile.
    pub async fn pause(&mut self) -> Result<(), VmmError> {
        self.control.command("stop").await?;
        // Earlier events do not concern the VM that gets the machine.
        while let Ok(Some(event)) = timeout(Duration::ZERO, self.process.events.next()).await {
            self.process.nics.note(&event);
            self.process.disks.note(&event);
            if announced(&event).is_some() || event.name == "RESET" {
                return Err(VmmError::Control {
                    machine: self.request.spec.name.clone(),
                    source: QmpError::Closed(provium_qmp::CloseReason::Ended),
                });
            }
        }
        Ok(())
    }

    /// Makes it the machine `name`, whose console continues in `console`, after what the saved machine had
    /// printed. It is paused until [`Machine::resume`].
    ///
    /// # Errors
    /// [`VmmError::Restore`] when `console` cannot be written.
    pub async fn assign(self, name: String, console: ConsoleLog) -> Result<Machine, VmmError> {
        let Self {
            mut request,
            process,
            control,
            streams,
        } = self;
        let console_start = console.len();
        if let Some(saved) = &request.inputs.saved {
            let continued = console.continue_from(&saved.console);
            continued.map_err(|error| VmmError::Restore {
                machine: name.clone(),
                source: std::io::Error::other(error),
            })?;
        }
        request.spec.name.clone_from(&name);
        let status = Arc::new(MachineStatus::new());
        let (hint_sender, hints) = mpsc::channel(HINT_BACKLOG);
        let pump = console.attach(process.serial, hint_sender).await;
        let machine = Machine {
            spec: request.spec,
            supports_s3: request.inputs.supports_s3,
            version: process.version,
            memory: request.inputs.memory,
            has_base: request.inputs.saved.is_some(),
            initrd: request.inputs.initrd,
            rng_served: process.rng_served,
            nics: Arc::clone(&process.nics),
            disks: Arc::clone(&process.disks),
            pid: process.child.id(),
            control: control.renamed(name),
            killer: process.child.killer(),
            console: console.clone(),
            console_start,
            streams: Mutex::new(streams),
            hints: AsyncMutex::new(hints),
            status: Arc::clone(&status),
            guest_end: process.guest_end,
        };
        let supervisor = Supervisor {
            child: process.child,
            events: process.events,
            stderr: process.stderr,
            status,
            console,
            pump,
            resets: Resets::default(),
            nics: process.nics,
            disks: process.disks,
        };
        tokio::spawn(supervisor.run());
        Ok(machine)
    }
}

/// Whether these are the same disks, apart from their serials.
fn are_alike(some: &[DiskDevice], others: &[DiskDevice]) -> bool {
    let devices = |disks: &[DiskDevice]| -> BTreeSet<_> {
        disks
            .iter()
            .map(|disk| (disk.slot, disk.read_only))
            .collect()
    };
    some.len() == others.len() && devices(some) == devices(others)
}

impl std::fmt::Debug for Standby {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Standby")
            .field(&self.request.spec.name)
            .finish()
    }
}
