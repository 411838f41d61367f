//! Whether a file can still return something: its turns that do not wait.
//!
//! Each part of a file that continues by itself has a [`Turn`]: the coroutine of a task, the preparation and the end of
//! a test. A turn waits while it needs another turn of the file, another file or the pool to continue.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The turns of a file that may continue by themselves. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Turns>);

#[derive(Debug, Default)]
struct Turns {
    active: AtomicUsize,
    /// How often one has begun, or ended a wait.
    begun: AtomicU64,
}

/// A part of a file that continues by itself, unless it waits; it ends with its last clone.
#[derive(Clone, Debug)]
pub(crate) struct Turn(Arc<TurnState>);

#[derive(Debug)]
struct TurnState {
    activity: Activity,
    /// What it waits for at the same time.
    waits: Mutex<usize>,
}

/// A turn that waits until this is dropped.
#[derive(Debug)]
pub(crate) struct WaitingTurn(Turn);

impl Activity {
    /// Whether every turn of the file waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.active.load(Ordering::Relaxed) == 0
    }

    /// How often a turn has begun, or ended a wait: if two looks at it are equal, a file that is idle at both was
    /// idle between them.
    pub(crate) fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::Relaxed)
    }

    fn begin(&self) {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        self.0.active.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turn {
    /// A turn begins.
    pub(crate) fn begin(activity: &Activity) -> Self {
        activity.begin();
        Self(Arc::new(TurnState {
            activity: activity.clone(),
            waits: Mutex::new(0),
        }))
    }

    /// It waits.
    pub(crate) fn wait(&self) -> WaitingTurn {
        let mut waits = self.0.waits.lock();
        *waits += 1;
        if *waits == 1 {
            self.0.activity.end();
        }
        WaitingTurn(self.clone())
    }
}

impl Drop for WaitingTurn {
    fn drop(&mut self) {
        let state = &self.0.0;
        let mut waits = state.waits.lock();
        *waits -= 1;
        if *waits == 0 {
            state.activity.begin();
        }
    }
}

impl Drop for TurnState {
    fn drop(&mut self) {
        // A wait holds its turn, so this one does not wait.
        self.activity.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_idle_while_all_its_turns_wait() {
        let activity = Activity::default();
        assert!(activity.is_idle());
        let (first, second) = (Turn::begin(&activity), Turn::begin(&activity));
        let (once, twice) = (first.wait(), first.wait());
        assert!(!activity.is_idle(), "the second does not wait");
        let waits = second.wait();
        assert!(activity.is_idle());
        let begun = activity.begun();
        drop(once);
        assert!(activity.is_idle(), "it still waits for something else");
        assert_eq!(activity.begun(), begun);
        drop(twice);
        assert!(!activity.is_idle());
        assert_eq!(activity.begun(), begun + 1);
        drop((first, second));
        assert!(activity.is_idle(), "the wait holds the second turn");
        drop(waits);
        assert!(activity.is_idle());
        assert_eq!(activity.0.active.load(Ordering::Relaxed), 0);
    }
}
