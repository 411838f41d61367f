//! Figures about the guest.

use crate::failure::{self, OpResult};
use crate::roots;
use crate::sys::{Sys, clock, file};
use provium_protocol::Reply;
use provium_protocol::message::GuestStats;

pub(crate) fn collect() -> OpResult {
    let memory = file::read_at(roots::PROC, "meminfo")
        .map_err(|errno| failure::os("read meminfo", errno))?;
    let processes = processes().map_err(|errno| failure::os("list processes", errno))?;
    Ok(Reply::Stats(GuestStats {
        uptime_ns: clock::since_boot(),
        memory_total: field(&memory, b"MemTotal:"),
        memory_available: field(&memory, b"MemAvailable:"),
        processes,
    }))
}

fn processes() -> Sys<u32> {
    let folder = file::open_at(roots::PROC, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let entries = file::list(folder)?;
    let count = entries
        .iter()
        .filter(|entry| entry.name.iter().all(u8::is_ascii_digit))
        .count();
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A field of `/proc/meminfo`, in bytes.
fn field(memory: &[u8], name: &[u8]) -> u64 {
    let line = memory
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(name));
    let digits: Vec<u8> = line
        .into_iter()
        .flatten()
        .copied()
        .filter(u8::is_ascii_digit)
        .collect();
    let kilobytes = std::str::from_utf8(&digits)
        .ok()
        .and_then(|digits| digits.parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_in_kilobytes() {
        let memory = b"MemTotal:         245760 kB\nMemFree: 7 kB\nMemAvailable:   8 kB\n";
        assert_eq!(field(memory, b"MemTotal:"), 245_760 * 1024);
        assert_eq!(field(memory, b"MemAvailable:"), 8192);
        assert_eq!(field(memory, b"Nope:"), 0);
    }
}
