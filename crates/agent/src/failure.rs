//! Why an op came to nothing, in the words of the wire.

use crate::sys::Errno;
use provium_protocol::{ErrorKind, Reply, WireError};

/// What an op comes to.
pub(crate) type OpResult = Result<Reply, WireError>;

fn failure(kind: ErrorKind, errno: i32, message: String) -> WireError {
    WireError {
        kind,
        errno,
        message,
    }
}

/// The kernel refused what was tried.
pub(crate) fn os(tried: impl Into<String>, errno: Errno) -> WireError {
    failure(ErrorKind::Os, errno.0, tried.into())
}

/// The host no longer wants it.
pub(crate) fn cancelled() -> WireError {
    failure(ErrorKind::Cancelled, 0, "cancelled".into())
}

/// The request makes no sense.
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

/// There is no such lane.
pub(crate) fn no_such_lane(lane: provium_protocol::Lane) -> WireError {
    failure(
        ErrorKind::NoSuchLane,
        0,
        format!("there is no lane `{lane}`"),
    )
}
