//! The resources that a QEMU process uses, from `/proc`.

use std::io;
use std::time::Duration;

/// The resources of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its threads, in user and kernel mode.
    pub cpu_time: Duration,
    /// Resident memory, bytes. Pages shared with others count fully.
    pub resident_bytes: u64,
    /// Memory of its own, and its share of memory that it shares with others, bytes: the cost of one more
    /// machine of the kind.
    pub proportional_bytes: u64,
}

/// Whether process `pid` is stopped, by a signal or by a tracer.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat"));
    // The name, in parentheses, may hold anything.
    stat.is_ok_and(|stat| {
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        state.is_some_and(|state| state.starts_with(['T', 't']))
    })
}

/// CPU time of all threads of process `pid`, in user and kernel mode.
pub(crate) fn cpu_time(pid: u32) -> io::Result<Duration> {
    of_stat(pid).map(|usage| usage.cpu_time)
}

/// The figures of process `pid`.
pub(crate) fn of_process(pid: u32) -> io::Result<Usage> {
    let mut usage = of_stat(pid)?;
    let rollup = fs_err::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    usage.proportional_bytes = proportional(&rollup).ok_or_else(|| unknown("smaps_rollup"))?;
    Ok(usage)
}

/// All but the proportional size.
fn of_stat(pid: u32) -> io::Result<Usage> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    let page_size = rustix::param::page_size() as u64;
    parse(&stat, ticks_per_second, page_size).ok_or_else(|| unknown("stat"))
}

fn unknown(file: &str) -> io::Error {
    let why = format!("unknown form of `{file}`");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// `Pss` of `proc_pid_smaps(5)`, in bytes.
fn proportional(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Fields 14 (utime), 15 (stime) and 24 (rss) of `proc_pid_stat(5)`. Field 2, the name, may hold
/// anything, so counting starts behind its closing parenthesis.
fn parse(stat: &str, ticks_per_second: u64, page_size: u64) -> Option<Usage> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    let cpu_time = Duration::from_nanos(ticks.checked_mul(1_000_000_000)? / ticks_per_second);
    Some(Usage {
        cpu_time,
        resident_bytes: field(24)? * page_size,
        proportional_bytes: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194304 9 0 0 0 150 50 0 0 20 0 4 0 77 900000 25 \
                    18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0";
        let usage = parse(stat, 100, 4096).unwrap();
        assert_eq!(
            usage,
            Usage {
                cpu_time: Duration::from_secs(2),
                resident_bytes: 25 * 4096,
                proportional_bytes: 0,
            }
        );
        assert!(parse("17 (a) S", 100, 4096).is_none());
    }

    #[test]
    fn the_proportional_size_is_found_among_others() {
        let rollup = "7f0-7f1 ---p 00000000 00:00 0 [rollup]\nRss:  900 kB\nPss:       123 kB\nPss_Dirty: 5 kB\n";
        assert_eq!(proportional(rollup), Some(123 * 1024));
        assert_eq!(proportional("Rss: 900 kB\n"), None);
    }

    #[test]
    fn a_living_process_has_figures() {
        let usage = of_process(std::process::id()).unwrap();
        assert!(usage.proportional_bytes > 0);
        assert!(usage.resident_bytes > 0);
    }
}
