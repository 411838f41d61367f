//! Errors of operations, as the protocol has them.

use crate::sys::Errno;
use provium_protocol::{ErrorKind, Reply, WireError};

/// The result of an operation.
pub(crate) type OpResult = Result<Reply, WireError>;

fn failure(kind: ErrorKind, errno: i32, message: String) -> WireError {
    WireError {
        kind,
        errno,
        message,
    }
}

/// A system call failed.
pub(crate) fn os(tried: impl Into<String>, errno: Errno) -> WireError {
    failure(ErrorKind::Os, errno.0, tried.into())
}

/// The host has cancelled the call.
pub(crate) fn cancelled() -> WireError {
    failure(ErrorKind::Cancelled, 0, "cancelled".into())
}

/// The request is invalid.
pub(crate) fn invalid(why: impl Into<String>) -> WireError {
    failure(ErrorKind::Invalid, 0, why.into())
}

/// The lane's process ended.
pub(crate) fn lane_died(how: impl std::fmt::Display) -> WireError {
    failure(
        ErrorKind::LaneDied,
        0,
        format!("its process in the guest {how}"),
    )
}

/// The lane does not exist.
pub(crate) fn no_such_lane(lane: provium_protocol::Lane) -> WireError {
    failure(
        ErrorKind::NoSuchLane,
        0,
        format!("lane `{lane}` does not exist"),
    )
}
