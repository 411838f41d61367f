//! `provium.toml`: found, read, checked.
//!
//! All paths in it are relative to the file itself, and come out of here absolute. Whatever is wrong
//! with it is one [`ConfigError`] with a place. Which files a profile boots from is checked when the
//! profile is [resolved](ProfileConfig::resolve), for a build command may have to make them first.

mod error;
mod find;
mod folder;
mod profile;
mod project;
mod section;
#[cfg(test)]
mod tests;

pub(crate) use error::ConfigError;
pub(crate) use profile::{BuildCommand, ProfileConfig};
pub(crate) use project::Config;
