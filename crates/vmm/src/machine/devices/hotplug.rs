//! What plugging NICs and plugging disks have in common.

use serde_json::{Value, json};

use crate::device::bus::Slot as _;
use crate::device::{DiskDevice, NicSlot};
use crate::error::VmmError;
use crate::machine::handle::Machine;

impl Machine {
    /// Runs a change to the end, also if the caller stops waiting for it.
    pub(in crate::machine) async fn uninterrupted(
        &self,
        change: impl Future<Output = Result<(), VmmError>> + Send + 'static,
    ) -> Result<(), VmmError> {
        let changed = tokio::spawn(change).await;
        changed.map_err(|error| self.control.host_error("a task", error.into()))?
    }

    /// The devices that QEMU has now, which may be fewer than [`Machine::nics`] and [`Machine::disks`]: the event
    /// that reports a release follows it.
    pub(in crate::machine) async fn attached(
        &self,
    ) -> Result<(Vec<NicSlot>, Vec<DiskDevice>), VmmError> {
        let (mut nics, mut disks) = (self.nics(), self.disks());
        if nics.is_empty() && disks.is_empty() {
            return Ok((nics, disks));
        }
        let arguments = json!({ "path": "/machine/peripheral" });
        let found = self.control.query("qom-list", arguments).await?;
        let is_attached = |id: String| {
            let devices = found.as_array().into_iter().flatten();
            devices
                .into_iter()
                .any(|device: &Value| device["name"] == id.as_str())
        };
        nics.retain(|slot| is_attached(slot.device_id()));
        disks.retain(|disk| is_attached(disk.slot.device_id()));
        Ok((nics, disks))
    }
}
