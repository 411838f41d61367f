//! The host's time, as guests get it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The host's time, nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
