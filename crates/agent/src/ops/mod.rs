//! What an executor's main thread does for each op.

pub(crate) mod clock;
pub(crate) mod descriptors;
pub(crate) mod files;
pub(crate) mod identity;
pub(crate) mod memory;
pub(crate) mod renewal;
pub(crate) mod stats;
pub(crate) mod stream;
pub(crate) mod syscall;
