//! The guest's clocks, in nanoseconds.

#![expect(unsafe_code, reason = "clock calls of the kernel")]

use super::{Errno, Sys, check};
use std::mem;
use std::os::fd::RawFd;

const SECOND: i64 = 1_000_000_000;

fn read(clock: libc::clockid_t) -> i64 {
    // SAFETY: all-zero is a valid timespec, and there is room for it.
    unsafe {
        let mut time: libc::timespec = mem::zeroed();
        libc::clock_gettime(clock, &raw mut time);
        time.tv_sec
            .saturating_mul(SECOND)
            .saturating_add(time.tv_nsec)
    }
}

fn split(ns: i64) -> libc::timespec {
    libc::timespec {
        tv_sec: ns.div_euclid(SECOND),
        tv_nsec: ns.rem_euclid(SECOND),
    }
}

/// CLOCK_REALTIME.
pub(crate) fn realtime() -> i64 {
    read(libc::CLOCK_REALTIME)
}

/// CLOCK_MONOTONIC.
pub(crate) fn monotonic() -> u64 {
    read(libc::CLOCK_MONOTONIC).unsigned_abs()
}

/// CLOCK_BOOTTIME.
pub(crate) fn since_boot() -> u64 {
    read(libc::CLOCK_BOOTTIME).unsigned_abs()
}

/// Sets CLOCK_REALTIME.
pub(crate) fn set_realtime(ns: i64) -> Sys<()> {
    let time = split(ns);
    // SAFETY: a valid timespec.
    check(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) }).map(drop)
}

/// Sets a hardware clock, which counts whole seconds in UTC.
pub(crate) fn set_hardware(device: RawFd, ns: i64) -> Sys<()> {
    // _IOW('p', 0x0a, struct rtc_time); that is the first nine fields of a `tm`.
    const RTC_SET_TIME: libc::c_ulong = 0x4024_700a;
    let second = ns.div_euclid(SECOND);
    // SAFETY: all-zero is a valid tm; `gmtime_r` fills it, and the kernel reads nine ints of it.
    unsafe {
        let mut time: libc::tm = mem::zeroed();
        if libc::gmtime_r(&raw const second, &raw mut time).is_null() {
            return Err(Errno::INVAL);
        }
        check(libc::ioctl(device, RTC_SET_TIME, &raw const time)).map(drop)
    }
}
