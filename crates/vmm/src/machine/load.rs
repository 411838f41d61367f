//! Loads saved state into a QEMU that waits for it (`-incoming defer`).
//!
//! QEMU maps the saved RAM copy-on-write. The pages that differ from a base are written into that mapping
//! first, because devices read their rings in RAM while their state is loaded. A rollback inside a
//! running QEMU is not possible: `xen-load-devices-state` aborts QEMU 7.2.

use std::fs::File;
use std::io::{self, BufReader};
use std::time::Duration;

use provium_qmp::{Client, CloseReason, Events, QmpError};
use serde_json::json;
use tokio::time::timeout;

use super::inputs::SavedInputs;
use super::start_error::StartError;
use crate::arguments::fd;
use crate::saved::{GuestMemory, PagesReader, firmware};

/// 30 ms are usual.
const LOAD_DEADLINE: Duration = Duration::from_secs(60);

/// Loads `saved` into process `pid`, whose RAM is a mapping of `memory`.
pub(super) async fn load(
    saved: &SavedInputs,
    memory: &GuestMemory,
    pid: u32,
    client: &Client,
    events: &mut Events,
) -> Result<(), StartError> {
    let filled = fill(saved, memory, pid, client).await;
    filled.map_err(StartError::Saved)?;
    let loaded = async {
        let capabilities = json!({"capabilities": [{"capability": "events", "state": true}]});
        client
            .execute("migrate-set-capabilities", capabilities)
            .await?;
        // QEMU would send frames in the guest's name, with addresses that it may not have any more.
        client.queue("migrate-set-parameters", &json!({"announce-rounds": 0}));
        let from = json!({"uri": format!("fd:{}", fd::DEVICES)});
        client.execute("migrate-incoming", from).await?;
        // State that QEMU cannot load ends the process, and with it the events.
        while let Some(event) = events.next().await {
            if event.name == "MIGRATION" && event.data["status"] == "completed" {
                return Ok(());
            }
        }
        Err(QmpError::Closed(CloseReason::Ended))
    };
    let loaded = timeout(LOAD_DEADLINE, loaded).await;
    loaded
        .map_err(|_| StartError::TimedOut("migrate-incoming", LOAD_DEADLINE))?
        .map_err(StartError::Control)
}

/// Writes into QEMU's memory what is not in the RAM file.
async fn fill(
    saved: &SavedInputs,
    memory: &GuestMemory,
    pid: u32,
    client: &Client,
) -> io::Result<()> {
    let firmware = match &saved.firmware {
        Some((address, bytes)) => {
            let at = firmware::host_address(client, *address).await;
            let at = at.map_err(io::Error::other)?;
            let at =
                at.ok_or_else(|| io::Error::other("the machine has no memory for its BIOS"))?;
            Some((at, bytes.clone()))
        }
        None => None,
    };
    let pages = saved.pages.as_ref().map(File::try_clone).transpose()?;
    let memory = memory.try_clone()?;
    let filled = tokio::task::spawn_blocking(move || {
        if let Some((at, bytes)) = firmware {
            firmware::write(pid, at, &bytes)?;
        }
        let Some(pages) = pages else { return Ok(()) };
        let writer = memory.writer(pid)?;
        PagesReader::new(BufReader::new(pages), memory.pages())?
            .each(|first, bytes| writer.write(first, bytes))
    });
    filled.await.unwrap_or_else(|error| Err(error.into()))
}
