//! `provium.toml`: found, read, checked.
//!
//! All paths in it are relative to the file itself, and come out of here absolute. Whatever is wrong
//! with it is one [`ConfigError`] with a place. Whether the files are there that a profile boots from is
//! looked at when the profile is [resolved](ProfileConfig::resolve): a build command may have to make
//! them first, and a configuration may serve several machines, of which each has some of them.

mod build_command;
mod disks;
mod error;
mod find;
mod folder;
mod profile;
mod project;
mod section;
mod source;
#[cfg(test)]
mod tests;

pub(crate) use build_command::BuildCommand;
pub(crate) use error::ConfigError;
pub(crate) use profile::ProfileConfig;
pub(crate) use project::Config;
