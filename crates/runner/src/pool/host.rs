//! How much the host has.

use std::thread::available_parallelism;

/// What of the host's memory a run may use unless told otherwise, in hundredths.
const MEMORY_SHARE: u64 = 80;

/// Memory to share out where the host does not say how much it has, bytes.
const UNKNOWN_MEMORY: u64 = 2 << 30;

/// 80 % of the host's memory, bytes.
pub fn default_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    total(&text).map_or(UNKNOWN_MEMORY, |total| total / 100 * MEMORY_SHARE)
}

/// The processors that this process may use.
pub fn default_cpus() -> u32 {
    available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

/// `MemTotal` of `/proc/meminfo` (see `proc_meminfo(5)`), bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read() {
        let text = "MemTotal:       24618372 kB\nMemFree:        100 kB\n";
        assert_eq!(total(text), Some(24_618_372 * 1024));
        assert_eq!(total("MemTotal: lots"), None);
        assert!(default_memory() > 0 && default_cpus() > 0);
    }
}
