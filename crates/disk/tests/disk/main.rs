//! Disks as a guest and a test see them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod content;
mod copies;
mod crash;
mod faults;
mod full_host;
mod log;
mod model;
mod open;
mod prepared_flush;
mod rig;
