//! The firmware, which a restored machine would otherwise lack.
//!
//! QEMU fills its BIOS ROM at the machine's reset, but not in a machine that waits for a saved state:
//! there it expects the content with that state, and the devices' state alone has none. A guest that
//! runs does not need it, but the next reset would end in an empty ROM. So the ROM is saved, and written
//! into the new process as the pages of RAM are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use provium_qmp::{Client, QmpError};
use serde_json::json;

/// Largest ROM that is accepted, bytes; 256 KiB is usual.
const LONGEST: u64 = 16 << 20;

/// Where the firmware is in the guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FirmwareLocation {
    /// Guest-physical.
    pub(crate) address: u64,
    /// Bytes.
    pub(crate) length: u64,
}

impl FirmwareLocation {
    /// Finds it in the QEMU behind `client`; `None` if that has no such ROM.
    pub(crate) async fn find(client: &Client) -> Result<Option<Self>, QmpError> {
        let said = monitor(client, "info roms").await?;
        Ok(said.lines().find_map(rom))
    }
}

/// Where the guest's `address` is in the address space of the QEMU behind `client`.
pub(crate) async fn host_address(client: &Client, address: u64) -> Result<Option<u64>, QmpError> {
    let said = monitor(client, &format!("gpa2hva 0x{address:x}")).await?;
    Ok(host_virtual(&said))
}

pub(crate) fn read(pid: u32, at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    File::open(format!("/proc/{pid}/mem"))?.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

pub(crate) fn write(pid: u32, at: u64, bytes: &[u8]) -> io::Result<()> {
    let memory = File::options()
        .write(true)
        .open(format!("/proc/{pid}/mem"))?;
    memory.write_all_at(bytes, at)
}

async fn monitor(client: &Client, line: &str) -> Result<String, QmpError> {
    let with = json!({"command-line": line});
    let said = client.execute("human-monitor-command", with).await?;
    Ok(said.as_str().unwrap_or_default().to_owned())
}

/// `addr=00000000fffc0000 size=0x040000 mem=rom name="bios-256k.bin"`
fn rom(line: &str) -> Option<FirmwareLocation> {
    let mut words = line.split_ascii_whitespace();
    let address = words.next()?.strip_prefix("addr=")?;
    let length = words.next()?.strip_prefix("size=0x")?;
    let is_rom = words.next()? == "mem=rom";
    let hex = |digits| u64::from_str_radix(digits, 16).ok();
    let location = FirmwareLocation {
        address: hex(address)?,
        length: hex(length)?,
    };
    (is_rom && location.length <= LONGEST).then_some(location)
}

/// `Host virtual address for 0xfffc0000 (pc.bios) is 0x7f0000000000`
fn host_virtual(said: &str) -> Option<u64> {
    let (_, digits) = said.trim().rsplit_once(" is 0x")?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rom_is_found_among_others() {
        let said = "fw=genroms/kvmvapic.bin size=0x002400 name=\"kvmvapic.bin\"\r\n\
                    addr=0000000001000000 size=0x2a5000 mem=ram name=\"vmlinux ELF program header segment 0\"\r\n\
                    addr=00000000fffc0000 size=0x040000 mem=rom name=\"bios-256k.bin\"\r\n\
                    /rom@etc/acpi/tables size=0x200000 name=\"etc/acpi/tables\"\r\n";
        let expected = FirmwareLocation {
            address: 0xfffc_0000,
            length: 0x4_0000,
        };
        assert_eq!(said.lines().find_map(rom), Some(expected));
        assert_eq!(rom("addr=0 size=0xffffffff mem=rom"), None);
        assert_eq!(rom(""), None);
    }

    #[test]
    fn the_host_address_is_read() {
        let said = "Host virtual address for 0xfffc0000 (pc.bios) is 0x7f12340000\r\n";
        assert_eq!(host_virtual(said), Some(0x7f_1234_0000));
        assert_eq!(host_virtual("No memory is mapped at address 0x1"), None);
    }
}
