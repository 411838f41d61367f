//! What concerns the guest as a whole.

pub(crate) mod clock;
pub(crate) mod renewal;
pub(crate) mod stats;
