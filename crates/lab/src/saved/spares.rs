//! Spares: machines that stand ready, so that the next restore need not wait for a QEMU to start.
//!
//! A spare is made behind the tests' backs of what has been restored before and is likely to be again:
//! of a template from its second use on, of a baseline at each reset. It is one machine that stands
//! still; it costs no processor, and of memory what QEMU needs for itself. There are few of them, none
//! where the pool is nearly used up, and they go when a boot needs the room.

use crate::budget::VM_OVERHEAD;
use crate::lock::lock;
use crate::saved::{Base, SavedVm};
use camino::{Utf8Path, Utf8PathBuf};
use provium_vmm::Standby;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

/// So many may stand ready or be in the making at a time.
const MOST: usize = 4;

/// The pool must have room for so many before one is made.
const ROOM: u64 = 4 * VM_OVERHEAD;

/// How likely a saved VM is to be restored again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// If it was so more than once.
    Perhaps,
    /// It will.
    Surely,
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct Spares(Mutex<State>);

#[derive(Default)]
struct State {
    ready: Vec<Spare>,
    making: Vec<Utf8PathBuf>,
    uses: BTreeMap<Utf8PathBuf, u32>,
    closed: bool,
}

struct Spare {
    folder: Utf8PathBuf,
    standby: Standby,
    /// What it shares its RAM with stays.
    _base: Arc<Base>,
}

impl Spares {
    /// A machine that stands where `saved` was, if one is ready.
    pub(crate) async fn take(&self, saved: &SavedVm) -> Option<Standby> {
        let standby = self.pop(saved.machine.folder())?;
        standby.is_alive().await.then_some(standby)
    }

    fn pop(&self, folder: &Utf8Path) -> Option<Standby> {
        let mut state = lock(&self.0);
        let found = state
            .ready
            .iter()
            .position(|spare| spare.folder == folder)?;
        Some(state.ready.swap_remove(found).standby)
    }

    /// Whether one should be made of what has just been restored; if so, it counts as in the making.
    pub(crate) fn wants(&self, saved: &SavedVm, again: Again, room: u64) -> bool {
        let folder = saved.machine.folder();
        let mut state = lock(&self.0);
        let uses = state.uses.entry(folder.to_owned()).or_default();
        *uses += 1;
        let likely = again == Again::Surely || *uses > 1;
        let wanted = likely && room >= ROOM && !state.closed && state.has_place_for(folder);
        if wanted {
            state.making.push(folder.to_owned());
        }
        wanted
    }

    /// One has been made, or could not be.
    pub(crate) fn made(&self, saved: &SavedVm, standby: Option<Standby>) {
        let mut state = lock(&self.0);
        let folder = saved.machine.folder();
        state.making.retain(|making| making != folder);
        if let Some(standby) = standby.filter(|_| !state.closed) {
            state.ready.push(Spare {
                folder: folder.to_owned(),
                standby,
                _base: Arc::clone(&saved.base),
            });
        }
    }

    /// Ends those that the pool has no room for.
    pub(crate) fn make_room(&self, room: u64) {
        if room < ROOM {
            let gone = std::mem::take(&mut lock(&self.0).ready);
            drop(gone);
        }
    }

    /// Ends all of them, for good.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.0);
        state.closed = true;
        let gone = std::mem::take(&mut state.ready);
        drop(state);
        drop(gone);
    }
}

impl State {
    fn has_place_for(&mut self, folder: &Utf8Path) -> bool {
        // What was deleted is restored no more.
        self.ready.retain(|spare| spare.folder.exists());
        let is_there = self.ready.iter().any(|spare| spare.folder == folder)
            || self.making.iter().any(|making| making == folder);
        !is_there && self.ready.len() + self.making.len() < MOST
    }
}

impl fmt::Debug for Spares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spares")
            .field(&lock(&self.0).ready.len())
            .finish()
    }
}
