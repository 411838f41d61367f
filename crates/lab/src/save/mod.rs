//! Saved VMs, and VMs that are restored from them: one way for templates, snapshots, fixtures and resets.
//!
//! ```text
//!           freeze                          save             thaw
//! booted VM ─────▶ agent quiesced, paused ─────▶ folder   ─────▶ it keeps running
//!                                                  ▼ open
//!                                               SavedVm ── load, assign, resume ──▶ machine and channel, with
//!                                                                                  an identity of their own
//! ```
//!
//! The agent does not know that it was saved. It is quiesced, so that no byte is in flight; the host's half
//! of the channel at that moment is stored with the machine ([`provium_guest::ChannelCheckpoint`]). A
//! restored machine gets a channel that continues from there, so workers, open files and running commands are
//! still what they were.
//!
//! A saved VM is a folder: what [`SavedMachine`](provium_vmm::SavedMachine) writes, and `vm.json`. Its owner
//! decides how long it exists: templates and fixtures are entries of the cache, snapshots belong to a test or
//! to its author.
//!
//! | file | purpose |
//! |---|---|
//! | `freeze` | quiesces and pauses a VM; a destructor thaws it |
//! | `manifest` | the description of a saved VM |
//! | `restore` | from a saved VM to one that runs |
//! | `warm_pool` | VMs that are restored in advance |
//! | `warm_up` | what runs in a guest before a test: a command, the set-up of NICs and disks |
//! | `damage` | whether an error is about the saved VM or about the host |

mod damage;
mod freeze;
mod manifest;
mod restore;
mod warm_pool;
mod warm_up;

pub(crate) use damage::is_damage;
pub(crate) use freeze::{FreezeError, FrozenVm, QUIESCE_LIMIT};
pub(crate) use manifest::{
    Base, SavedGuest, SavedNic, SavedVm, VERSION as SAVED_VM_VERSION, VmManifest,
};
pub(crate) use restore::{Identity, RestoreError, RestoreRequest, RestoredVm, host_name};
pub(crate) use warm_pool::{Reuse, WarmPool};
pub(crate) use warm_up::{warm_up, warm_up_network, warm_up_placeholders};
