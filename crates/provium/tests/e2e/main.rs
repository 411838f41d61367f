//! Runs of the executable on real guests, beside what a Lua test cannot have: other runs, signals,
//! a damaged cache, a full disk.
//!
//! Most tests are ignored unless they are asked for, since they boot guests. `make guest-test` runs
//! them with the release build. With a debug build, and one test of them:
//!
//! ```sh
//! cargo test -p provium --test e2e -- --ignored an_entry_in_use
//! ```
//!
//! The default guest is taken from the user's cache. What a test damages or counts is its own.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails its test")]
#![expect(
    clippy::disallowed_methods,
    reason = "the executable is started as a user would"
)]

mod blocked_syscall;
mod cache;
mod cache_sharing;
mod console;
mod descriptors;
mod disk_images;
mod disk_trouble;
mod doctor;
mod failure_report;
mod fixture_builds;
mod fixture_inputs;
mod forward;
mod given_up;
mod memory;
mod mirror;
mod nothing_left;
mod pool;
mod preparation;
mod process;
mod project;
