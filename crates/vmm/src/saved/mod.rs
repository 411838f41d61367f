//! Saved machines: what a paused machine is on disk, and how much of it is shared.
//!
//! ```text
//! FOLDER/
//!   machine.json    what the machine is (versioned); written last
//!   devices         the devices' state, as QEMU writes it
//!   console         what the guest had printed
//!   firmware        its BIOS                                              ┐
//!   initrd          its initial RAM disk; a reset needs both again        │ a whole one
//!   ram             all of its RAM, sparse                               ┘
//!   pages           the pages that differ from its base's RAM            } one with a base
//! ```
//!
//! A saved machine is *whole*, or it has a *base*: another whole one, whose folder its owner keeps.
//! Both are restored in the same way: a new QEMU maps the RAM file copy-on-write, so that machines
//! from one folder share what they do not write; with a base, the pages that differ are written
//! into that mapping before the devices' state is loaded.
//!
//! A machine's RAM is always a private mapping of a file: of its base's, or of an empty one. So what
//! it has written are the pages that belong to the process alone, and a save costs what was
//! written, whatever the machine's size. A base never has a base: a save of a restored machine holds
//! all that differs from the one base, so there are no chains.
//!
//! It does not track folders or know which are in use, and does not touch the guest, whose agent has to be
//! quiesced when a machine is saved.

pub(crate) mod firmware;
mod manifest;
mod memory;
mod pages;

pub(crate) use manifest::{CONSOLE, DEVICES, FIRMWARE, INITRD, PAGES, RAM};
pub use manifest::{MachineManifest, SavedError, SavedMachine};
pub(crate) use memory::{GuestMemory, PAGE};
pub(crate) use pages::{PagesReader, PagesWriter};
