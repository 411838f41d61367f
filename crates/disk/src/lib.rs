//! Virtual disks: an image, a copy-on-write overlay, faults, and what a power cut would lose.

mod command;
mod export;
pub mod service;

pub use command::{Admission, Command, CommandKind, Effect};
pub use export::Export;
