//! CLOCK_REALTIME.

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
