//! A machine that stands ready and is nobody's yet.
//!
//! Starting QEMU and loading a state takes most of the time of a restore. A standby has that behind
//! it: whoever needs the machine gives it a name and a console, and it goes on. Nobody watches over a
//! standby; one that has died shows it when it is resumed. Dropping it ends it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use camino::Utf8PathBuf;
use provium_qmp::Version;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::time::timeout;

use super::handle::{Machine, Told};
use super::launch::{Launched, Start};
use super::resets::Resets;
use super::supervisor::Supervisor;
use crate::console::Console;
use crate::error::VmmError;
use crate::qemu::Qemu;
use crate::saved::SavedMachine;

/// See the module's text.
pub struct Standby {
    pub(super) start: Start,
    pub(super) version: Version,
    pub(super) launched: Launched,
}

/// How many suspicions are kept for whoever asks next.
const SUSPICIONS: usize = 16;

impl Standby {
    /// A machine that is where the saved one was. `kernel` is the one that it was booted from.
    ///
    /// # Errors
    /// As [`Machine::restore`].
    pub async fn prepare(
        saved: SavedMachine,
        name: String,
        kernel: Utf8PathBuf,
        qemu: &Qemu,
    ) -> Result<Self, VmmError> {
        saved.check_version(&name, qemu)?;
        let spec = saved.spec(name, kernel);
        Start::new(spec, Some(saved)).await?.run(qemu).await
    }

    /// Makes it the machine `name`, whose console goes on in `console` behind what the saved one had
    /// printed. It stands still until [resumed](Machine::resume).
    ///
    /// # Errors
    /// [`VmmError::Restore`] when what had been printed cannot be had.
    pub async fn restore(self, name: String, console: Console) -> Result<Machine, VmmError> {
        if let Some(saved) = &self.start.saved {
            saved.print_into(&name, &console)?;
        }
        Ok(self.take(name, console).await)
    }

    /// Whether its QEMU is there still.
    pub async fn is_alive(&self) -> bool {
        let ended = timeout(Duration::ZERO, self.launched.child.wait());
        ended.await.is_err()
    }

    pub(super) async fn take(self, name: String, console: Console) -> Machine {
        let Self {
            mut start,
            version,
            launched,
        } = self;
        start.spec.name = name;
        let told = Arc::new(Told::new());
        let (suspect, suspicions) = mpsc::channel(SUSPICIONS);
        let pump = console.attach(launched.serial, suspect).await;
        let machine = Machine {
            spec: start.spec,
            version,
            memory: start.memory,
            has_base: start.saved.is_some(),
            initrd: start.initrd,
            rng_served: launched.rng_served,
            pid: launched.child.id(),
            client: launched.client,
            killer: launched.child.killer(),
            console: console.clone(),
            streams: Mutex::new(Some(launched.streams)),
            suspicions: AsyncMutex::new(suspicions),
            told: Arc::clone(&told),
        };
        let supervisor = Supervisor {
            child: launched.child,
            events: launched.events,
            stderr: launched.stderr,
            told,
            console,
            pump,
            resets: Resets::default(),
        };
        tokio::spawn(supervisor.run());
        machine
    }
}

impl std::fmt::Debug for Standby {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Standby")
            .field(&self.start.spec.name)
            .finish()
    }
}
