//! When a file is given up that does not end by itself.
//!
//! A file ends by itself when its time is over, or the run is to end. One that does not is given up: soon,
//! if its thread shows no sign of life, and later, if it is still cleaning up.

use crate::plan::Plan;
use provium_pool::FileWatch;
use std::time::Duration;

/// How long a file may take to clean up after its time was over, until it is given up.
const CLEAN_UP: Duration = Duration::from_secs(120);

/// How long a file's thread may usually show no sign of life once the file's time is over: it is in
/// code that cannot be interrupted, and will not clean up. Far more than a busy host takes to get
/// around to a thread.
pub const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Why to give up a file, if so: its time is past, or the run has been `stopping` for so
/// long. What it waited for others counts for neither.
pub(crate) fn late(
    ran: Duration,
    watch: &FileWatch,
    plan: &Plan,
    stopping: Option<Duration>,
) -> Option<String> {
    let limit = plan.file_timeout;
    let ran = ran.saturating_sub(watch.waited());
    let past = limit.and_then(|limit| ran.checked_sub(limit));
    let over = past.max(stopping)?;
    let stuck = over.min(watch.silent_for()) >= plan.stuck_after;
    if !stuck && over < CLEAN_UP {
        return None;
    }
    let when = match limit {
        Some(limit) if past.is_some() => format!("its time of {limit:?} was over"),
        _ => "the run was to end".to_owned(),
    };
    let seconds = over.as_secs();
    Some(if stuck {
        format!(
            "given up: {when}, but {seconds} s later its Lua code was still in a function that cannot \
             be interrupted (a pattern, a read, a finaliser)"
        )
    } else {
        format!("given up: {when}, but {seconds} s later it had not cleaned up")
    })
}
