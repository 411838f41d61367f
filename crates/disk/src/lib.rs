//! Virtual disks: an image, a copy-on-write overlay, faults, and a volatile cache that a power cut loses.
//!
//! ```text
//! command of the guest ── faults ── volatile cache and log ── overlay ── base
//! the test's sectors ───────────────────────┘
//! ```
//!
//! | part | what |
//! |---|---|
//! | `base` | zeroes, an image that is shared, or an image that is written in place |
//! | `overlay`, `layers` | where each block is; files of blocks, shared by copies |
//! | `state` | what is durable: the volatile cache, flushes, the records of the log |
//! | `power` | power cuts |
//! | `faults` | rules that decide how a command is carried out |
//! | `log`, `roll_back`, `crash` | the log, the way back to a mark of it, and the states that a crash could leave |
//! | `copy`, `save` | forks, exports, saved disks |
//! | [`Disk`] | all of it, as an [`Export`] |
//!
//! A disk never waits: the service that carries out its commands waits for delays.

mod base;
mod command;
mod copy;
mod crash;
mod disk;
mod error;
mod export;
mod faults;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod geometry;
mod host_failure;
mod image_stamp;
mod layers;
mod log;
mod overlay;
mod power;
mod record;
mod roll_back;
mod save;
mod service;
mod sparse_copy;
mod state;
mod stats;

pub use base::{Base, image_size};
pub use command::{Admission, Command, CommandKind, Effect};
pub use copy::UnnamedImage;
pub use crash::{CrashOptions, CrashState, CrashStates};
pub use disk::{Disk, DiskSpec};
pub use error::DiskError;
pub use export::{Export, FlushPoint};
pub use faults::{FaultId, FaultMode, FaultRule, SectorRange};
pub use geometry::SECTOR;
pub use host_failure::{HostFailure, HostFailures};
pub use log::{LogEntry, LogKind, LogMark, WriteLog};
pub use power::{Keep, PowerCut, PowerLoss};
pub use save::SavedDisk;
pub use service::{DiskService, Pace};
pub use stats::DiskStats;
