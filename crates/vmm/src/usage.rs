//! What a machine costs its host: figures of the QEMU process, from `/proc`.

use std::io;
use std::time::Duration;

/// What a process has used and uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its threads, in user and kernel mode.
    pub cpu_time: Duration,
    /// Resident memory, bytes. Pages shared with others count fully.
    pub resident_bytes: u64,
}

/// The figures of process `pid`.
pub(crate) fn of_process(pid: u32) -> io::Result<Usage> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    let page_size = rustix::param::page_size() as u64;
    parse(&stat, ticks_per_second, page_size)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown form of `stat`"))
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
                resident_bytes: 25 * 4096
            }
        );
        assert!(parse("17 (a) S", 100, 4096).is_none());
    }

    #[test]
    fn a_living_process_has_figures() {
        assert!(of_process(std::process::id()).unwrap().resident_bytes > 0);
    }
}
