//! The guest's identity: randomness that no copy of it has, its clock, its host name.

use crate::failure::{self, OpResult};
use crate::roots;
use crate::sys::{Sys, boot, clock, fd, file};
use provium_protocol::Reply;
use provium_protocol::op::SetIdentity;
use std::os::fd::AsRawFd;

/// More bytes than the kernel and its driver have read ahead from the hardware generator.
const READ_AHEAD: usize = 256;

/// Whose the host name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameOwner {
    /// The host's.
    Host,
    /// An init's, which sets it when it starts. A copy of the guest, whose init has done that, gets the name
    /// that the host wants.
    Init,
    /// The guest's, always.
    Guest,
}

impl NameOwner {
    /// Whether the agent sets the name; `is_copy`: in a copy of a saved guest.
    pub(crate) fn is_set(self, is_copy: bool) -> bool {
        match self {
            Self::Host => true,
            Self::Init => is_copy,
            Self::Guest => false,
        }
    }
}

/// Sets what the request contains, as far as possible; the reply is the first failure.
///
/// Randomness comes first: until then, copies of one guest draw the same numbers.
pub(crate) fn set(request: &SetIdentity, sets_name: bool) -> OpResult {
    let randomness = reseed(request);
    let clock = request.realtime_ns.map_or(Ok(()), set_clock);
    let hostname = request.hostname.as_ref().filter(|_| sets_name);
    let hostname = hostname.map_or(Ok(()), |name| boot::set_hostname(name));
    for (what, result) in [
        ("reseeding the random number generator", randomness),
        ("setting the clock", clock),
        ("setting the host name", hostname),
    ] {
        result.map_err(|errno| failure::os(what, errno))?;
    }
    Ok(Reply::Done)
}

fn set_clock(ns: i64) -> Sys<()> {
    clock::set_realtime(ns)?;
    // There may be no hardware clock, or one that cannot represent this time.
    if let Ok(device) = file::open_at(roots::DEV, c"rtc0", libc::O_RDONLY, 0) {
        let _ = clock::set_hardware(device.as_raw_fd(), ns);
    }
    Ok(())
}

fn reseed(request: &SetIdentity) -> Sys<()> {
    let reseeded = if request.entropy.is_empty() {
        Ok(())
    } else {
        file::open_at(roots::DEV, c"random", libc::O_RDWR, 0)
            .and_then(|device| boot::reseed_random(device.as_raw_fd(), &request.entropy))
    };
    // Not before: while a thread of the kernel reads from the generator, this waits, and other tasks run.
    if request.fresh_hwrng {
        discard_read_ahead();
    }
    reseeded
}

/// Discards the bytes that the hardware generator gave before this guest was saved: each copy has them.
fn discard_read_ahead() {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK;
    let Ok(device) = file::open_at(roots::DEV, c"hwrng", flags, 0) else {
        return;
    };
    let (mut bytes, mut discarded) = ([0; READ_AHEAD], 0);
    while discarded < READ_AHEAD {
        match fd::read(device.as_raw_fd(), &mut bytes) {
            Ok(got @ 1..) => discarded += got,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_names_the_guest_and_the_host_its_copies() {
        for (owner, at_boot, in_copy) in [
            (NameOwner::Host, true, true),
            (NameOwner::Init, false, true),
            (NameOwner::Guest, false, false),
        ] {
            assert_eq!(
                (owner.is_set(false), owner.is_set(true)),
                (at_boot, in_copy)
            );
        }
    }
}
