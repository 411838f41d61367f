//! Amounts as they stand in tables for people.

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

/// Seconds since 1970, for machines.
pub(crate) fn since_1970(then: SystemTime) -> u64 {
    let since = then.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
