//! The default guest: a stock kernel and busybox, with or without packages.
//!
//! ```text
//! cache ──▶ there: done, no network touched
//!   └─ else download (apt, or HTTP) ──▶ else this host's own kernel and busybox ──▶ else an error with both reasons
//! ```
//!
//! Nothing is installed, no package's script is run, and of the downloaded programs only busybox is
//! run on the host, to be asked for the names of its applets.

mod apt;
mod busybox;
mod deb;
mod default;
mod download;
mod host;
mod http;
mod mirror;
mod package_index;
mod packages;
mod parts;
mod skeleton;
mod source;
mod trust;

pub use source::download_tool;

#[cfg(test)]
pub(crate) use deb::tests::example as example_package;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use deb::unpack_into as unpack_package;
