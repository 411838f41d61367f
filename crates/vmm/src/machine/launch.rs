//! Boots a machine from its specification.

use super::handle::Machine;
use super::standby::Standby;
use crate::console::ConsoleLog;
use crate::error::VmmError;
use crate::qemu::Qemu;
use crate::spec::MachineSpec;

impl Machine {
    /// Starts a machine that prints to `console`. Must be called inside a tokio runtime that lives as long
    /// as the machine.
    ///
    /// # Errors
    /// [`VmmError::Specification`] and [`VmmError::Unreadable`] before anything is started;
    /// [`VmmError::DiedAtStart`] with the text that QEMU printed.
    pub async fn launch(
        spec: MachineSpec,
        qemu: &Qemu,
        console: ConsoleLog,
    ) -> Result<Self, VmmError> {
        let machine = Self::launch_paused(spec, qemu, console).await?;
        machine.resume().await?;
        Ok(machine)
    }

    /// As [`Machine::launch`], but the guest has not begun to boot: disks can be [inserted](Machine::insert_disk)
    /// before [`Machine::resume`] lets it.
    ///
    /// # Errors
    /// As [`Machine::launch`].
    pub async fn launch_paused(
        spec: MachineSpec,
        qemu: &Qemu,
        console: ConsoleLog,
    ) -> Result<Self, VmmError> {
        let name = spec.name.clone();
        let standby = Standby::start(spec, None, qemu).await?;
        let machine = standby.assign(name, console).await?;
        machine.disconnect_nics().await?;
        Ok(machine)
    }
}
