//! Spares: machines that stand ready, so that the next restore need not wait for a QEMU to start.
//!
//! A spare is made behind the tests' backs of what has been restored before and is likely to be again:
//! of a template from its second use on, of a baseline at each reset. It is one machine that stands
//! still; it costs no processor, and of memory what QEMU needs for itself. There are few of them, the
//! one that has been waiting for longest makes place for a new one, there are none where the pool is
//! nearly used up, and they go when a boot needs the room.

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

struct State<S = Ready> {
    ready: Vec<Spare<S>>,
    making: Vec<Utf8PathBuf>,
    uses: BTreeMap<Utf8PathBuf, u32>,
    closed: bool,
}

struct Spare<S> {
    folder: Utf8PathBuf,
    machine: S,
}

/// A machine, and what it shares its RAM with, which stays as long.
struct Ready {
    standby: Standby,
    _base: Arc<Base>,
}

impl<S> Default for State<S> {
    fn default() -> Self {
        Self {
            ready: Vec::new(),
            making: Vec::new(),
            uses: BTreeMap::new(),
            closed: false,
        }
    }
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
        Some(state.ready.remove(found).machine.standby)
    }

    /// Whether one should be made of what has just been restored; if so, it counts as in the making.
    pub(crate) fn wants(&self, saved: &SavedVm, again: Again, room: u64) -> bool {
        let folder = saved.machine.folder();
        let mut state = lock(&self.0);
        let uses = state.uses.entry(folder.to_owned()).or_default();
        *uses += 1;
        let likely = again == Again::Surely || *uses > 1;
        if !likely || room < ROOM || state.closed {
            return false;
        }
        let (wanted, gone) = state.place_for(folder);
        if wanted {
            state.making.push(folder.to_owned());
        }
        drop(state);
        drop(gone);
        wanted
    }

    /// One has been made, or could not be.
    pub(crate) fn made(&self, saved: &SavedVm, standby: Option<Standby>) {
        let mut state = lock(&self.0);
        let folder = saved.machine.folder();
        state.making.retain(|making| making != folder);
        if let Some(standby) = standby.filter(|_| !state.closed) {
            let machine = Ready {
                standby,
                _base: Arc::clone(&saved.base),
            };
            state.ready.push(Spare {
                folder: folder.to_owned(),
                machine,
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

impl<S> State<S> {
    /// Whether there is a place for one of `folder`, and the spares that have made place.
    fn place_for(&mut self, folder: &Utf8Path) -> (bool, Vec<Spare<S>>) {
        // What was deleted is restored no more.
        let deleted = |spare: &mut Spare<S>| !spare.folder.exists();
        let mut gone: Vec<Spare<S>> = self.ready.extract_if(.., deleted).collect();
        let is_there = self.ready.iter().any(|spare| spare.folder == folder)
            || self.making.iter().any(|making| making == folder);
        if is_there || self.making.len() >= MOST {
            return (false, gone);
        }
        // Those that are ready are in the order in which they came to be so.
        while self.ready.len() + self.making.len() >= MOST {
            gone.push(self.ready.remove(0));
        }
        (true, gone)
    }
}

impl fmt::Debug for Spares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spares")
            .field(&lock(&self.0).ready.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_spare_takes_the_place_of_the_oldest_and_a_deleted_one_has_none() {
        let root = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(root.path()).unwrap();
        let folder = |number: usize| {
            let folder = root.join(number.to_string());
            fs_err::create_dir_all(&folder).unwrap();
            folder
        };
        let mut state: State<usize> = State::default();
        let mut come = |number| {
            let (wanted, gone) = state.place_for(&folder(number));
            if wanted {
                let (folder, machine) = (folder(number), number);
                state.ready.push(Spare { folder, machine });
            }
            let gone: Vec<usize> = gone.iter().map(|spare| spare.machine).collect();
            (wanted, gone)
        };
        for number in 0..MOST {
            assert_eq!(come(number), (true, vec![]));
        }
        assert_eq!(come(1), (false, vec![]), "it is there");
        assert_eq!(come(10), (true, vec![0]), "the oldest");
        fs_err::remove_dir(folder(2)).unwrap();
        assert_eq!(come(11), (true, vec![2]), "the deleted one");
        assert_eq!(come(12), (true, vec![1]));

        state.making = (20..20 + MOST).map(folder).collect();
        assert!(
            !state.place_for(&folder(30)).0,
            "all places are for those in the making"
        );
    }
}
