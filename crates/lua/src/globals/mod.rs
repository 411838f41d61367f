//! The globals that need no guest: codecs, tables of numbers, the host's clock, hashes.

mod chance;
mod codecs;
mod debug;
mod errno;
mod hash;
mod host;
mod install;
mod process;
mod sysno;
mod wait;

pub(crate) use install::install;
pub(crate) use sysno::{name as syscall_name, number as syscall_number};
