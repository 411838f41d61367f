//! From a saved machine to one that stands ready to go on.
//!
//! A fresh QEMU maps the saved RAM copy-on-write; the pages that differ from a base are put there
//! first, because the devices look into RAM (at their rings) while their state is loaded. Rolling
//! back inside a running QEMU is not possible: `xen-load-devices-state` aborts QEMU 7.2.

use std::io::{self, BufReader};
use std::time::Duration;

use camino::Utf8PathBuf;
use provium_process::Child;
use provium_qmp::{Client, Closed, Events, QmpError};
use serde_json::json;
use tokio::time::timeout;

use super::handle::Machine;
use super::launch::{Missed, Start};
use super::standby::Standby;
use crate::arguments::fd;
use crate::console::Console;
use crate::error::VmmError;
use crate::qemu::Qemu;
use crate::saved::firmware;
use crate::saved::{PagesReader, SavedMachine};

/// Some 30 ms are usual.
const LOAD_DEADLINE: Duration = Duration::from_secs(60);

impl Machine {
    /// A machine that is where the saved one was, and stands still until
    /// [resumed](Machine::resume). `kernel` is the one that it was booted from. Its console goes on
    /// in `console`, behind what the saved one had printed.
    ///
    /// # Errors
    /// As [`Machine::launch`]; [`VmmError::Restore`] and [`VmmError::DiedAtStart`] when what is saved
    /// cannot be used, whatever the reason: it is damaged then, or of another QEMU.
    pub async fn restore(
        saved: SavedMachine,
        name: String,
        kernel: Utf8PathBuf,
        qemu: &Qemu,
        console: Console,
    ) -> Result<Self, VmmError> {
        let standby = Standby::prepare(saved, name.clone(), kernel, qemu).await?;
        standby.restore(name, console).await
    }
}

impl SavedMachine {
    /// A state can be loaded by the QEMU that saved it, and by no other.
    pub(super) fn check_version(&self, name: &str, qemu: &Qemu) -> Result<(), VmmError> {
        let version = qemu.version.to_string();
        if self.facts.qemu == version {
            return Ok(());
        }
        Err(VmmError::Restore {
            machine: name.to_owned(),
            source: io::Error::other(format!(
                "it was saved by QEMU {}, and this is {version}",
                self.facts.qemu
            )),
        })
    }

    /// Puts what the saved machine had printed into the console of `name`.
    pub(super) fn print_into(&self, name: &str, console: &Console) -> Result<(), VmmError> {
        let failed = |source| VmmError::Restore {
            machine: name.to_owned(),
            source,
        };
        let printed = self.console().map_err(failed)?;
        let kept = console.continue_from(&printed);
        kept.map_err(|error| failed(io::Error::other(error)))
    }
}

impl Start {
    /// Puts what is saved into a QEMU that waits for it; nothing to do in one that boots.
    pub(super) async fn load(
        &self,
        child: &Child,
        client: &Client,
        events: &mut Events,
    ) -> Result<(), Missed> {
        let Some(saved) = &self.saved else {
            return Ok(());
        };
        let filled = self.fill(saved, child.id(), client).await;
        filled.map_err(Missed::Saved)?;
        let loaded = async {
            let told = json!({"capabilities": [{"capability": "events", "state": true}]});
            client.execute("migrate-set-capabilities", told).await?;
            let from = json!({"uri": format!("fd:{}", fd::DEVICES)});
            client.execute("migrate-incoming", from).await?;
            // A state that QEMU cannot take ends it, and with it the events.
            while let Some(event) = events.next().await {
                if event.name == "MIGRATION" && event.data["status"] == "completed" {
                    return Ok(());
                }
            }
            Err(QmpError::Closed(Closed::Ended))
        };
        let loaded = timeout(LOAD_DEADLINE, loaded).await;
        loaded
            .map_err(|_| Missed::TooLate("migrate-incoming", LOAD_DEADLINE))?
            .map_err(Missed::Control)
    }

    /// Puts into QEMU's memory what its mapping of the RAM file does not bring along.
    async fn fill(&self, saved: &SavedMachine, pid: u32, client: &Client) -> io::Result<()> {
        if let Some((address, path)) = saved.firmware() {
            let at = firmware::host_address(client, address).await;
            let at = at.map_err(io::Error::other)?;
            let at = at.ok_or_else(|| io::Error::other("the machine has no place for its BIOS"))?;
            firmware::write(pid, at, &fs_err::read(path)?)?;
        }
        let Some(pages) = saved.pages() else {
            return Ok(());
        };
        let memory = self.memory.try_clone()?;
        let filled = tokio::task::spawn_blocking(move || {
            let writer = memory.writer(pid)?;
            let file = BufReader::new(fs_err::File::open(pages)?);
            PagesReader::new(file, memory.pages())?.each(|first, bytes| writer.write(first, bytes))
        });
        filled.await.unwrap_or_else(|error| Err(error.into()))
    }
}
