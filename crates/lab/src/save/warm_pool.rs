//! Spares: machines that stand ready, so that the next restore need not wait for a QEMU to start.
//!
//! A spare is made behind the tests' backs of what has been restored before and is likely to be again:
//! of a template from its second use on, of a baseline at each reset. It is one machine that stands
//! still; it costs no processor, and of memory what QEMU needs for itself. There are few of them, the
//! one that has been waiting for longest makes place for a new one, there are none where the pool is
//! nearly used up, and they go when a boot needs the room.
//!
//! A spare is found by what it was made of: its folder, and the seal of a folder that its author may
//! replace. A folder that was replaced has another seal, and spares of the older one are ended.

use crate::lock::lock;
use crate::save::{Base, SavedVm};
use camino::Utf8PathBuf;
use provium_pool::VM_OVERHEAD;
use provium_store::Seal;
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
    making: Vec<Source>,
    uses: BTreeMap<Source, u32>,
    closed: bool,
}

struct Spare<S> {
    source: Source,
    machine: S,
}

/// Which saved VM a spare was made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    folder: Utf8PathBuf,
    /// Of a folder that its author may replace.
    seal: Option<Seal>,
}

impl Source {
    fn of(saved: &SavedVm) -> Self {
        Self {
            folder: saved.machine.folder().to_owned(),
            seal: saved.seal().cloned(),
        }
    }

    /// Whether it can still be restored.
    fn is_there(&self) -> bool {
        self.folder.exists() && self.seal.as_ref().is_none_or(Seal::is_current)
    }
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
        let standby = self.pop(&Source::of(saved))?;
        standby.is_alive().await.then_some(standby)
    }

    fn pop(&self, source: &Source) -> Option<Standby> {
        let mut state = lock(&self.0);
        let found = state
            .ready
            .iter()
            .position(|spare| spare.source == *source)?;
        Some(state.ready.remove(found).machine.standby)
    }

    /// Whether one should be made of what has just been restored; if so, it counts as in the making.
    pub(crate) fn wants(&self, saved: &SavedVm, again: Again, room: u64) -> bool {
        let source = Source::of(saved);
        let mut state = lock(&self.0);
        let uses = state.uses.entry(source.clone()).or_default();
        *uses += 1;
        let likely = again == Again::Surely || *uses > 1;
        if !likely || room < ROOM || state.closed {
            return false;
        }
        let (wanted, gone) = state.place_for(&source);
        if wanted {
            state.making.push(source);
        }
        drop(state);
        drop(gone);
        wanted
    }

    /// One has been made, or could not be.
    pub(crate) fn made(&self, saved: &SavedVm, standby: Option<Standby>) {
        let mut state = lock(&self.0);
        let source = Source::of(saved);
        state.making.retain(|making| *making != source);
        // What was replaced while the spare was made may be a part of it.
        let is_of_use = !state.closed && source.is_there();
        if let Some(standby) = standby.filter(|_| is_of_use) {
            let machine = Ready {
                standby,
                _base: Arc::clone(&saved.base),
            };
            state.ready.push(Spare { source, machine });
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
    /// Whether there is a place for one of `source`, and the spares that have made place.
    fn place_for(&mut self, source: &Source) -> (bool, Vec<Spare<S>>) {
        // What was deleted or replaced is never restored again.
        let useless = |spare: &mut Spare<S>| !spare.source.is_there();
        let mut gone: Vec<Spare<S>> = self.ready.extract_if(.., useless).collect();
        let is_there =
            self.ready.iter().any(|spare| spare.source == *source) || self.making.contains(source);
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
    use camino::Utf8Path;

    #[test]
    fn a_spare_of_a_replaced_folder_is_not_found_and_ends() {
        let root = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(root.path()).unwrap();
        fs_err::create_dir(folder.join("part")).unwrap();
        let older = Source {
            folder: folder.join("part"),
            seal: Some(Seal::new(folder).unwrap()),
        };
        let mut state: State<u32> = State::default();
        let (source, machine) = (older.clone(), 1);
        state.ready.push(Spare { source, machine });
        assert!(!state.place_for(&older).0, "it is there");
        let newer = Source {
            seal: Some(Seal::new(folder).unwrap()),
            ..older.clone()
        };
        let (wanted, gone) = state.place_for(&newer);
        assert_eq!((wanted, gone.len()), (true, 1));
        assert!(newer.is_there() && !older.is_there());
    }

    #[test]
    fn a_new_spare_takes_the_place_of_the_oldest_and_a_deleted_one_has_none() {
        let root = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(root.path()).unwrap();
        let folder = |number: usize| {
            let folder = root.join(number.to_string());
            fs_err::create_dir_all(&folder).unwrap();
            let seal = None;
            Source { folder, seal }
        };
        let mut state: State<usize> = State::default();
        let mut come = |number| {
            let (wanted, gone) = state.place_for(&folder(number));
            if wanted {
                let (source, machine) = (folder(number), number);
                state.ready.push(Spare { source, machine });
            }
            let gone: Vec<usize> = gone.iter().map(|spare| spare.machine).collect();
            (wanted, gone)
        };
        for number in 0..MOST {
            assert_eq!(come(number), (true, vec![]));
        }
        assert_eq!(come(1), (false, vec![]), "it is there");
        assert_eq!(come(10), (true, vec![0]), "the oldest");
        fs_err::remove_dir(folder(2).folder).unwrap();
        assert_eq!(come(11), (true, vec![2]), "the deleted one");
        assert_eq!(come(12), (true, vec![1]));

        state.making = (20..20 + MOST).map(folder).collect();
        assert!(
            !state.place_for(&folder(30)).0,
            "all places are for those in the making"
        );
    }
}
