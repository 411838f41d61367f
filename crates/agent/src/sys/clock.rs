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
    let time = calendar(ns.div_euclid(SECOND))?;
    // SAFETY: an array of the length that the request names.
    check(unsafe { libc::ioctl(device, RTC_SET_TIME, &raw const time) }).map(drop)
}

/// Seconds since 1970 as `struct rtc_time`: second, minute, hour, day of the month, month from 0, years
/// since 1900, day of the week from Sunday, day of the year from 0, and 0 for UTC.
///
/// Not by the C library, whose function brings along time zones, and with them a tenth of the agent's size.
fn calendar(second: i64) -> Sys<[i32; 9]> {
    const DAY: i64 = 24 * 60 * 60;
    /// Days from 1 March 0000 to 1 January 1970, and in the 400 years after which days repeat.
    const TO_1970: i64 = 719_468;
    const ERA: i64 = 146_097;
    let (days, of_day) = (second.div_euclid(DAY), second.rem_euclid(DAY));
    let (era, of_era) = (
        (days + TO_1970).div_euclid(ERA),
        (days + TO_1970).rem_euclid(ERA),
    );
    // Years begin in March here, so that a leap day is the last of its year.
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let is_next_year = month >= 10;
    let year = era * 400 + year_of_era + i64::from(is_next_year);
    let month = if is_next_year { month - 10 } else { month + 2 };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let year_day = if is_next_year {
        of_year - 306
    } else {
        of_year + 59 + i64::from(is_leap)
    };
    let fields = [
        of_day % 60,
        of_day / 60 % 60,
        of_day / 3600,
        day,
        month,
        year - 1900,
        (days + 4).rem_euclid(7),
        year_day,
        0,
    ];
    let mut time = [0; 9];
    for (to, from) in time.iter_mut().zip(fields) {
        *to = i32::try_from(from).map_err(|_| Errno::INVAL)?;
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_is_that_of_the_c_library() {
        let mut second: i64 = -3_000_000_000;
        // Steps of some days, hours and seconds, through all months and leap years up to 2300.
        while second < 10_500_000_000 {
            // SAFETY: all-zero is a valid tm, which the call fills.
            let expected = unsafe {
                let mut time: libc::tm = mem::zeroed();
                libc::gmtime_r(&raw const second, &raw mut time);
                time
            };
            let expected = [
                expected.tm_sec,
                expected.tm_min,
                expected.tm_hour,
                expected.tm_mday,
                expected.tm_mon,
                expected.tm_year,
                expected.tm_wday,
                expected.tm_yday,
                0,
            ];
            assert_eq!(calendar(second), Ok(expected), "{second}");
            second += 2 * 86_400 + 5 * 3600 + 61;
        }
        assert_eq!(calendar(i64::MAX), Err(Errno::INVAL));
    }
}
