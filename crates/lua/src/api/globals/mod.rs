//! The globals that need no guest: codecs, tables of numbers, the host's clock, hashes.

mod chance;
mod codecs;
mod debug;
mod dependency_tracking;
mod errno;
mod hash;
mod host;
mod host_io;
mod install;
mod modules;
mod process;
mod strings;
mod sysno;
mod wait;

pub(crate) use dependency_tracking::{record_mode, record_read, record_tree, record_write, watch};
pub(crate) use install::install;
pub(crate) use modules::read_source;
pub(crate) use strings::captured;
#[cfg(test)]
pub(crate) use strings::install as install_strings;
pub(crate) use sysno::number as syscall_number;
