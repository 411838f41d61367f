//! Operations on the guest as a whole.

pub(crate) mod clock;
pub(crate) mod identity;
pub(crate) mod stats;
