//! CLOCK_REALTIME, and sleeping on CLOCK_MONOTONIC.

use crate::executor::Outcome;
use crate::failure::{self, OpResult};
use crate::sys::{Errno, clock};
use provium_protocol::Reply;

pub(crate) fn get() -> OpResult {
    Ok(Reply::Clock(clock::realtime()))
}

pub(crate) fn set(ns: i64) -> OpResult {
    clock::set_realtime(ns).map_err(|errno| failure::os("clock_settime", errno))?;
    Ok(Reply::Clock(ns))
}

pub(crate) fn advance(ns: i64) -> OpResult {
    let Some(time) = clock::realtime().checked_add(ns) else {
        return Err(failure::os("clock_settime", Errno::INVAL));
    };
    set(time)
}

pub(crate) fn sleep(ns: u64) -> Outcome {
    let until = clock::monotonic().saturating_add(ns);
    Outcome::later(move |_, call| {
        loop {
            if call.is_cancelled() {
                return Err(failure::cancelled());
            }
            match clock::sleep_until(until) {
                Ok(()) => return Ok(Reply::Done),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failure::os("clock_nanosleep", errno)),
            }
        }
    })
}
