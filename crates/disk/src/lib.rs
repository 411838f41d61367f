//! Virtual disks: an image, a copy-on-write overlay, faults, and what a power cut would lose.

mod base;
mod command;
mod copy;
mod crash;
mod disk;
mod error;
mod export;
mod faults;
mod geometry;
mod log;
mod overlay;
mod power;
mod record;
mod save;
mod service;
mod sparse_copy;
mod state;
mod stats;

pub use base::{Base, image_size};
pub use command::{Admission, Command, CommandKind, Effect};
pub use crash::{CrashOptions, CrashState, CrashStates};
pub use disk::{Disk, DiskSpec};
pub use error::DiskError;
pub use export::Export;
pub use faults::{FaultId, FaultMode, FaultRule, SectorRange};
pub use geometry::SECTOR;
pub use log::{LogEntry, LogKind, LogMark, WriteLog};
pub use power::{Keep, PowerCut, PowerLoss};
pub use save::SavedDisk;
pub use service::{DiskService, Pace};
pub use stats::DiskStats;
