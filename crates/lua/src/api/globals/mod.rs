//! The globals that need no guest: codecs, tables of numbers, the host's clock, hashes.

mod chance;
mod codecs;
mod debug;
mod errno;
mod hash;
mod host;
mod host_io;
mod install;
mod process;
mod strings;
mod sysno;
mod wait;

pub(crate) use host_io::Children;
pub(crate) use install::install;
#[cfg(test)]
pub(crate) use strings::install as install_strings;
pub(crate) use sysno::{name as syscall_name, number as syscall_number};
