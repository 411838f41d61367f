//! The path of frames from one port to another, as a row of stages.
//!
//! | stage | file | draws |
//! |---|---|---|
//! | partition, isolation | `stages.rs` | |
//! | loss | `loss.rs` | once a frame |
//! | rate | `rate.rs` | |
//! | latency and jitter | `delay.rs` | once a frame |
//! | reordering | `reorder.rs` | once a frame |
//! | duplication | `duplicate.rs` | once a frame |
//! | corruption | `corrupt.rs` | once a frame, and the bit |
//!
//! Each stage draws from a generator of its own, so which frames are lost does not depend on whether
//! they are delayed, too.

mod corrupt;
mod delay;
mod duplicate;
mod loss;
mod rate;
mod reorder;
mod stage_rng;
mod stages;

pub use reorder::REORDER_GAP;
pub(crate) use stage_rng::mixed;
pub use stages::IN_FLIGHT_LIMIT;
pub(crate) use stages::{Path, PathOutcome};
