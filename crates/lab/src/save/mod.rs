//! VMs at rest, and VMs that come from there: one way for templates, snapshots, fixtures and resets.
//!
//! ```text
//!                hold                      save                      let go
//! booted VM ────────────▶ agent is quiet ────────▶ folder ────────▶ it goes on
//!                         machine stands           │
//!                                                  ▼ open
//!                                               SavedVm ── revive ──▶ machine + channel, with an
//!                                                                     identity of their own
//! ```
//!
//! The agent does not know that it was saved. It is brought to a *cut*, at which no byte is under
//! way; the host keeps its own half of the channel at that moment ([`provium_guest::ChannelCheckpoint`]) beside the
//! machine. A revived machine gets a channel that goes on from there, so workers, open files and
//! running commands are still what they were.
//!
//! A saved VM is a folder: what [`SavedMachine`](provium_vmm::SavedMachine) writes, and `vm.json`.
//! Who owns the folder, and for how long, is up to those who use this: templates and fixtures are
//! entries of the cache, snapshots belong to a test or to its author.

mod freeze;
mod manifest;
mod restore;
pub(crate) mod snapshot;
mod warm_pool;

pub(crate) use freeze::{Held, HoldError};
pub(crate) use manifest::{Base, SavedVm, VmFacts, is_damage};
pub(crate) use restore::{Identity, ReviveError, Revived, host_name};
pub(crate) use warm_pool::{Again, Spares};
