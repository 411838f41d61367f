//! Amounts in tables for people.

use provium_events::counted;
use std::time::{Duration, SystemTime};

/// Bytes, rounded up to mebibytes.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// How long ago, in the largest unit that says something.
pub(crate) fn ago(then: SystemTime) -> String {
    let seconds = then.elapsed().unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// How long something took.
pub(crate) fn took(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// The result of a clean-up.
#[derive(Debug, Default)]
pub(crate) struct RemovalSummary {
    count: u64,
    freed: u64,
    kept: usize,
}

impl RemovalSummary {
    /// An entry of that size is gone, or is in use and has stayed.
    pub(crate) fn note(&mut self, gone: bool, size: u64) {
        if gone {
            self.count += 1;
            self.freed += size;
        } else {
            self.kept += 1;
        }
    }

    /// As a line; `what` is the noun for one entry.
    pub(crate) fn summary(&self, what: &str) -> String {
        let Self { count, freed, kept } = self;
        let kept = match kept {
            0 => String::new(),
            kept => format!("; {kept} in use and kept"),
        };
        format!(
            "{} removed, {} freed{kept}\n",
            counted(*count, what),
            mebibytes(*freed)
        )
    }
}

/// Seconds since 1970, for machines.
pub(crate) fn since_1970(then: SystemTime) -> u64 {
    let since = then.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
