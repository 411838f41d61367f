//! State that the threads of the executor share.

use super::call::lock;
use super::calls::Calls;
use super::children::Children;
use super::numbers::Numbers;
use super::root::Root;
use super::spawned::Handover;
use crate::sys::Sys;
use provium_protocol::Lane;
use std::sync::Mutex;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) calls: Calls,
    pub(super) children: Children,
    pub(super) handover: Handover,
    root: Mutex<Root>,
    numbers: Mutex<Numbers>,
    /// Limits on descriptors that raw processes have.
    pub(super) descriptors: libc::rlimit,
}

impl Shared {
    pub(super) fn new(root: Root, numbers: Numbers, descriptors: libc::rlimit) -> Sys<Self> {
        Ok(Self {
            calls: Calls::default(),
            children: Children::default(),
            handover: Handover::new()?,
            root: Mutex::new(root),
            numbers: Mutex::new(numbers),
            descriptors,
        })
    }

    pub(super) fn next_lane(&self) -> Lane {
        lock(&self.numbers).next_lane()
    }

    pub(super) fn next_generation(&self) -> u64 {
        lock(&self.numbers).next_generation()
    }

    /// Enters the root of process 1 if that has moved since the last look; returns the root as seen now.
    pub(super) fn follow_root(&self) -> Root {
        let mut root = lock(&self.root);
        if root.has_moved() {
            drop(Root::enter());
        }
        *root
    }
}
