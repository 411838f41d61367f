//! Futexes in shared memory. Raw system calls, since threads without thread-local storage use them, too.

use super::raw;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

const WAIT: i64 = libc::FUTEX_WAIT as i64;
const WAKE: i64 = libc::FUTEX_WAKE as i64;

fn address(word: &AtomicU32) -> i64 {
    word.as_ptr().addr().cast_signed() as i64
}

/// Waits while the word has this value, until it is woken, a signal comes, or the time is up.
pub(crate) fn wait(word: &AtomicU32, value: u32, timeout: Option<Duration>) {
    let time = timeout.map(|time| libc::timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    });
    let time = time
        .as_ref()
        .map_or(0, |time| std::ptr::from_ref(time).addr() as i64);
    raw::bare(
        libc::SYS_futex,
        [address(word), WAIT, i64::from(value), time, 0, 0],
    );
}

/// Wakes all waiters.
pub(crate) fn wake(word: &AtomicU32) {
    raw::bare(
        libc::SYS_futex,
        [address(word), WAKE, i64::from(i32::MAX), 0, 0, 0],
    );
}
