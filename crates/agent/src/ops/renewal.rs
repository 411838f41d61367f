//! Telling a guest who it is: its time, its name, randomness that no copy of it has.

use crate::failure::{self, OpResult};
use crate::roots;
use crate::sys::{Errno, boot, clock, fd, file};
use provium_protocol::Reply;
use provium_protocol::op::Renewal;
use std::os::fd::AsRawFd;

/// More than the kernel and its driver hold of the hardware generator's bytes.
const STALE: usize = 256;

/// Carries it out; the first failure is the answer.
pub(crate) fn renew(renewal: &Renewal, is_init: bool) -> OpResult {
    match carry_out(renewal, is_init).into_iter().next() {
        None => Ok(Reply::Done),
        Some((what, errno)) => Err(failure::os(what, errno)),
    }
}

/// Carries out as much as can be; what could not.
pub(crate) fn carry_out(renewal: &Renewal, is_init: bool) -> Vec<(&'static str, Errno)> {
    let mut failures = Vec::new();
    let mut note = |what, result: Result<(), Errno>| {
        failures.extend(result.err().map(|errno| (what, errno)));
    };
    if let Some(ns) = renewal.realtime_ns {
        note("setting the clock", clock::set_realtime(ns));
        // Where there is one, and it takes this time.
        if let Ok(device) = file::open_at(roots::DEV, c"rtc0", libc::O_RDONLY, 0) {
            let _ = clock::set_hardware(device.as_raw_fd(), ns);
        }
    }
    if let Some(name) = renewal.hostname.as_ref().filter(|_| is_init) {
        note("setting the host name", boot::set_hostname(name));
    }
    if renewal.fresh_hwrng {
        drain_hardware_generator();
    }
    if !renewal.entropy.is_empty() {
        let device = file::open_at(roots::DEV, c"random", libc::O_RDWR, 0);
        let rekeyed =
            device.and_then(|device| boot::rekey_random(device.as_raw_fd(), &renewal.entropy));
        note("rekeying the random generator", rekeyed);
    }
    failures
}

/// Bytes that the generator gave before this guest was copied would be the same in each copy.
fn drain_hardware_generator() {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK;
    let Ok(device) = file::open_at(roots::DEV, c"hwrng", flags, 0) else {
        return;
    };
    let (mut bytes, mut drained) = ([0; STALE], 0);
    while drained < STALE {
        match fd::read(device.as_raw_fd(), &mut bytes) {
            Ok(got @ 1..) => drained += got,
            _ => return,
        }
    }
}
