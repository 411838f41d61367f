//! Waking a machine from S3.
//!
//! For the devices, waking is a reset, after which the firmware has to set up the chipset again. SeaBIOS
//! (1.16) leaves a q35's power management unmapped then: the guest runs, but has no power button, cannot
//! switch itself off, nor sleep a second time. So what was set up is carried over: it is read while the
//! machine sleeps, and written back, with the vCPUs stopped, right after its reset. The guest may be some
//! milliseconds into its own waking by then; of what it does there only the enabling of the power
//! button would be lost, so that is carried over, too.
//!
//! The ports are those of every PC: configuration space through 0xcf8 and 0xcfc (PCI 3.0, 3.2.2.3.2), and
//! the ACPI registers where the ICH9's PMBASE says (Intel 316972, 13.1.13 and 13.8.3).

use super::handle::Machine;
use crate::error::VmmError;
use serde_json::Value;

/// Where a register of configuration space is chosen, and where it is read and written.
const CONFIG_ADDRESS: u32 = 0xcf8;
const CONFIG_DATA: u32 = 0xcfc;

/// Device 31's first function: the LPC bridge.
const LPC: u32 = 0x1f << 11;
/// Device 0: the host bridge.
const HOST_BRIDGE: u32 = 0;

/// Where the ACPI registers are.
const PMBASE: u32 = LPC | 0x40;
const PMBASE_ADDRESS: u32 = 0xff80;

/// What is carried over: PMBASE, what switches it on, and the memory window of configuration space.
const CARRIED: [u32; 4] = [PMBASE, LPC | 0x44, HOST_BRIDGE | 0x60, HOST_BRIDGE | 0x64];

/// Behind PMBASE: which events interrupt the guest, two bytes.
const PM1_ENABLE: u32 = 2;

impl Machine {
    /// Whether the guest sleeps (S3).
    ///
    /// # Errors
    /// As [`Machine::pause`].
    pub async fn sleeps(&self) -> Result<bool, VmmError> {
        let status = self.answer("query-status", Value::Null).await?;
        Ok(status["status"] == "suspended")
    }

    /// Wakes it from S3, see [`Machine::can_wake`]; returns when the guest goes on, not when it is back.
    ///
    /// # Errors
    /// As [`Machine::pause`]; QEMU refuses if it does not sleep.
    pub async fn wakeup(&self) -> Result<(), VmmError> {
        if !self.sleeps().await? {
            // QEMU says so.
            return self.command("system_wakeup").await;
        }
        // While it sleeps, its vCPUs stand.
        let mut carried = Vec::new();
        for register in CARRIED {
            carried.push((register, self.config(register).await?));
        }
        let ports = self.config(PMBASE).await? & PMBASE_ADDRESS;
        let enable = ports + PM1_ENABLE;
        let enabled = self.port_in('h', enable).await?;
        // Both at once: as little as can be of the guest runs between them.
        let (woken, stopped) = tokio::join!(self.command("system_wakeup"), self.command("stop"));
        woken.and(stopped)?;
        let chosen = self.port_in('w', CONFIG_ADDRESS).await?;
        for (register, value) in carried {
            self.choose(register).await?;
            self.port_out('w', CONFIG_DATA, value).await?;
        }
        self.port_out('w', CONFIG_ADDRESS, chosen).await?;
        self.port_out('h', enable, enabled).await?;
        self.command("cont").await
    }

    async fn config(&self, register: u32) -> Result<u32, VmmError> {
        self.choose(register).await?;
        self.port_in('w', CONFIG_DATA).await
    }

    async fn choose(&self, register: u32) -> Result<(), VmmError> {
        self.port_out('w', CONFIG_ADDRESS, 1 << 31 | register).await
    }

    /// Reads a port; `width` is `h` for two bytes, `w` for four.
    async fn port_in(&self, width: char, port: u32) -> Result<u32, VmmError> {
        let said = self.monitor(format!("i /x{width} {port:#x}")).await?;
        read_answer(&said).ok_or_else(|| self.unexpected(&said))
    }

    async fn port_out(&self, width: char, port: u32, value: u32) -> Result<(), VmmError> {
        let command = format!("o /{width} {port:#x} {value:#x}");
        match self.monitor(command).await?.trim() {
            "" => Ok(()),
            said => Err(self.unexpected(said)),
        }
    }
}

/// The value in `portl[0x0cfc] = 0x00000601`.
fn read_answer(said: &str) -> Option<u32> {
    let (_, value) = said.trim().rsplit_once("= 0x")?;
    u32::from_str_radix(value, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monitor_is_understood() {
        assert_eq!(read_answer("portl[0x0cfc] = 0x00000601\r\n"), Some(0x601));
        assert_eq!(read_answer("portw[0x0602] = 0x0120\r\n"), Some(0x120));
        assert_eq!(read_answer("unknown command: 'i'\r\n"), None);
        assert_eq!(read_answer(""), None);
    }
}
