//! Crash states: what a power loss could leave on a disk, tried on copies of its VM.
//!
//! ```text
//! VM with a disk ── start ──▶ CrashExplorer ── copy ──▶ CrashVm ── next ──▶ CrashImage, on the disk of the copy
//!   whose writes are recorded     snapshot of the VM      │                     │
//!                                 and the states          └──────── again ◀─────┘ the test has checked it
//! ```
//!
//! A copy is restored from the snapshot. It gets one state after the other on its disk, as long as its guest releases
//! the disk; otherwise it is restored again.

mod explorer;
mod image;

pub use explorer::{CrashCount, CrashExplorer, CrashVm};
pub use image::CrashImage;
