//! Wakes a machine from S3.
//!
//! For the devices, waking is a reset, after which the firmware has to set up the chipset again. SeaBIOS
//! (1.16) leaves a q35's power management unmapped then: the guest runs, but has no power button, cannot
//! switch itself off, nor sleep a second time; a kernel that reads the unmapped registers may even reboot.
//! So the registers are carried over: they are read while the machine sleeps, and written back after the
//! reset, before the guest's first instruction.
//!
//! ```text
//!   here                        QEMU's main loop                    vCPUs
//!    ├─ stub: wake, and stop ──▶ "runs", then "stopped", at once     stopped
//!    │                           the reset of waking                 stopped, at 0xfffffff0
//!    ◀────────────── WAKEUP ─────┤
//!    ├─ QMP: registers, cont ──▶ run                                 firmware, then the guest
//! ```
//!
//! The stop has to arrive before the next iteration of QEMU's main loop, which resets the machine and starts
//! its vCPUs. Two commands of QMP are further apart than that, on a busy host by as much as the guest
//! needs to get into its kernel. QEMU's gdbstub takes both in one piece (see `stub`), so it is opened
//! for this moment, on a socket that only QEMU knows of. If a debugger has the stub, QMP is the only
//! way. Where the vCPU is by then is checked in any case: inside the firmware nothing is lost, and
//! behind it the caller gets an error.
//!
//! The ports are those of every PC: configuration space through 0xcf8 and 0xcfc (PCI 3.0, 3.2.2.3.2), and
//! the ACPI registers where the ICH9's PMBASE says (Intel 316972, 13.1.13 and 13.8.3).

use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::control::Control;
use super::gdb::{Debugger, debugger};
use super::handle::Machine;
use super::processors::instruction_address;
use super::status::{MachineEvent, MachineStatus};
use super::stub::GdbStub;
use crate::error::VmmError;

/// The ports that select a register of configuration space, and that read and write it.
const CONFIG_ADDRESS: u32 = 0xcf8;
const CONFIG_DATA: u32 = 0xcfc;

/// Device 31's first function: the LPC bridge.
const LPC: u32 = 0x1f << 11;
/// Device 0: the host bridge.
const HOST_BRIDGE: u32 = 0;

/// Has the address of the ACPI registers.
const PMBASE: u32 = LPC | 0x40;

/// The registers that are carried over: PMBASE, the one that enables it, and the memory window of configuration space.
const CARRIED: [u32; 4] = [PMBASE, LPC | 0x44, HOST_BRIDGE | 0x60, HOST_BRIDGE | 0x64];

/// QEMU does each step of waking at once; a host that swaps makes it seconds.
const STUB_DEADLINE: Duration = Duration::from_secs(30);

/// The addresses of the firmware, below 1 MiB and, as the first instruction after a reset, below 4 GiB.
const FIRMWARE: [RangeInclusive<u64>; 2] = [0xe_0000..=0xf_ffff, 0xfffe_0000..=0xffff_ffff];

impl Machine {
    /// Wakes the guest from S3, see [`Machine::can_resume_from_s3`]; returns when its vCPUs run, which is before
    /// the guest is back.
    ///
    /// # Errors
    /// As [`Machine::pause`]; QEMU refuses if the guest does not sleep.
    pub async fn wakeup(&self) -> Result<(), VmmError> {
        if !self.control.is_suspended().await? {
            // Reports the error.
            return self.control.command("system_wakeup").await;
        }
        let wakeup = Wakeup {
            machine: self.name(),
            control: &self.control,
            status: &self.status,
        };
        wakeup.run().await
    }
}

/// One wakeup of a guest that sleeps.
struct Wakeup<'a> {
    machine: &'a str,
    control: &'a Control,
    status: &'a MachineStatus,
}

impl Wakeup<'_> {
    async fn run(self) -> Result<(), VmmError> {
        // While the guest sleeps, its vCPUs are stopped.
        let mut carried = Vec::new();
        for register in CARRIED {
            carried.push((register, self.config(register).await?));
        }
        let rebooted = self.wake_stopped().await?;
        let in_firmware = self.in_firmware().await;
        let chosen = self.port_in(CONFIG_ADDRESS).await?;
        for (register, value) in carried {
            self.choose(register).await?;
            self.port_out(CONFIG_DATA, value).await?;
        }
        self.port_out(CONFIG_ADDRESS, chosen).await?;
        self.control.command("cont").await?;
        if in_firmware? && !rebooted {
            Ok(())
        } else {
            Err(VmmError::ResumedTooLate {
                machine: self.machine.to_owned(),
            })
        }
    }

    /// Whether the guest itself has not run yet. Its first vCPU is the one that starts.
    async fn in_firmware(&self) -> Result<bool, VmmError> {
        let said = self.control.human("info registers".to_owned()).await?;
        let at = instruction_address(&said).ok_or_else(|| self.control.unexpected(&said))?;
        Ok(FIRMWARE.iter().any(|range| range.contains(&at)))
    }

    /// Wakes it, and returns when it is reset and stopped; true if the guest has rebooted meanwhile.
    async fn wake_stopped(&self) -> Result<bool, VmmError> {
        let mut events = self.status.events.subscribe();
        match debugger(self.control).await? {
            Debugger::None => self.wake_by_own_stub().await?,
            Debugger::Expected(address) => {
                let stub = TcpStream::connect(address).await;
                let stub = stub.map_err(|source| self.stub_failed(source))?;
                self.wake_by(stub).await?;
            }
            Debugger::Connected(_) => {
                // Both at once, so that the guest runs as little as possible between them.
                let (woken, stopped) = tokio::join!(
                    self.control.command("system_wakeup"),
                    self.control.command("stop")
                );
                woken.and(stopped)?;
            }
        }
        let reset = async {
            let (mut woken, mut stopped, mut rebooted) = (false, false, false);
            while !(woken && stopped) {
                match events.recv().await {
                    Ok(MachineEvent::Woken) => woken = true,
                    Ok(MachineEvent::Paused) => stopped = true,
                    Ok(MachineEvent::Rebooted) => rebooted = true,
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Err(io::ErrorKind::BrokenPipe.into()),
                }
            }
            Ok(rebooted)
        };
        self.in_time(reset).await
    }

    /// Opens a stub for the time of the call. QEMU connects to a socket of ours, so no other process can reach it.
    async fn wake_by_own_stub(&self) -> Result<(), VmmError> {
        let failed = |source| self.stub_failed(source);
        let folder = tempfile::Builder::new()
            .prefix("provium-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(failed)?;
        let path = folder.path().join("stub");
        let listener = UnixListener::bind(&path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let said = self
            .control
            .human(gdbserver(&path.to_string_lossy()))
            .await?;
        // QEMU answers once it has connected, or could not.
        let Ok((stream, _)) = listener.accept() else {
            return Err(self.control.unexpected(&said));
        };
        stream.set_nonblocking(true).map_err(failed)?;
        let woken = match UnixStream::from_std(stream) {
            Ok(stream) => self.wake_by(stream).await,
            Err(error) => Err(failed(error)),
        };
        let closed = self.control.human("gdbserver none".to_owned()).await;
        woken.and(closed.map(drop))
    }

    async fn wake_by<S>(&self, stream: S) -> Result<(), VmmError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stub = self.in_time(GdbStub::connect(stream)).await?;
        if !self.control.is_suspended().await? {
            // Since QEMU 9, a debugger that connects also stops a machine that sleeps; this undoes it.
            self.control.command("cont").await?;
        }
        self.in_time(stub.run_stopped("system_wakeup")).await
    }

    async fn in_time<T>(&self, act: impl Future<Output = io::Result<T>>) -> Result<T, VmmError> {
        let done = timeout(STUB_DEADLINE, act).await;
        let done = done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        done.map_err(|source| self.stub_failed(source))
    }

    fn stub_failed(&self, source: io::Error) -> VmmError {
        VmmError::Stub {
            machine: self.machine.to_owned(),
            source,
        }
    }

    async fn config(&self, register: u32) -> Result<u32, VmmError> {
        self.choose(register).await?;
        self.port_in(CONFIG_DATA).await
    }

    async fn choose(&self, register: u32) -> Result<(), VmmError> {
        self.port_out(CONFIG_ADDRESS, 1 << 31 | register).await
    }

    /// Reads four bytes from a port.
    async fn port_in(&self, port: u32) -> Result<u32, VmmError> {
        let said = self.control.human(format!("i /xw {port:#x}")).await?;
        read_answer(&said).ok_or_else(|| self.control.unexpected(&said))
    }

    async fn port_out(&self, port: u32, value: u32) -> Result<(), VmmError> {
        let command = format!("o /w {port:#x} {value:#x}");
        match self.control.human(command).await?.trim() {
            "" => Ok(()),
            said => Err(self.control.unexpected(said)),
        }
    }
}

/// The monitor command that makes QEMU's stub connect to the socket at `path`.
fn gdbserver(path: &str) -> String {
    // The comma of QEMU's option syntax, then the string of the monitor's.
    let path = path.replace(',', ",,");
    let path = path.replace('\\', r"\\").replace('"', r#"\""#);
    format!(r#"gdbserver "unix:{path}""#)
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

    #[test]
    fn any_path_reaches_the_stub() {
        assert_eq!(gdbserver("/tmp/x"), r#"gdbserver "unix:/tmp/x""#);
        assert_eq!(gdbserver(r#"/a,b "\"#), r#"gdbserver "unix:/a,,b \"\\""#);
    }
}
