//! The inputs of a fixture: all that its build has read.
//!
//! | file | what |
//! |---|---|
//! | `input` | something that was read, and how it can differ now |
//! | `recorder` | records what a build reads |
//! | `failed_build` | builds that have failed in this run |
//! | `directory` | what a directory is, with all that is in it |
//! | `source` | where a fixture comes from |

mod directory;
mod failed_build;
mod input;
mod recorder;
mod source;

pub use input::{Change, Input, InputKind};
pub use recorder::Recorder;
pub use source::FixtureSource;

pub(crate) use directory::tree_now;
pub(crate) use failed_build::{FailedBuild, FailedBuilds};
pub(crate) use input::ABSENT;
pub(crate) use recorder::{Build, file_now, mode_now, variable_now};
