//! What of a VM's past is still part of what its guest is now.
//!
//! A handle (a file, a process, a worker) carries a [`Mark`]: when it was made. A boot or a reset
//! makes everything before it void. Going back to a snapshot makes void what was made after the
//! snapshot, and what was made before it holds again: for the guest, it has never been otherwise.

use crate::graph::scope::ResourceId;

/// When a handle was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    stretch: u64,
    moment: ResourceId,
}

impl Mark {
    /// Whether the guest was neither booted, reset nor put back between the two.
    pub(crate) fn is_of_same_run(self, other: Self) -> bool {
        self.stretch == other.stretch
    }
}

/// A piece of the past, from a boot, a reset or a restore on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    number: u64,
    /// Up to when it is part of the guest's past; `None`: it goes on.
    until: Option<ResourceId>,
}

/// The pieces, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Timeline {
    stretches: Vec<Stretch>,
    /// Counts all there have been.
    last: u64,
    restored: bool,
}

/// A moment that a VM can go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Past(Vec<Stretch>);

impl Timeline {
    /// The guest boots: nothing of what was holds.
    pub(crate) fn boot(&mut self) {
        self.stretches.clear();
        self.restored = false;
        self.begin();
    }

    /// The moment now.
    pub(crate) fn past(&self) -> Past {
        let now = ResourceId::next();
        let stretches = self.stretches.iter().map(|stretch| Stretch {
            until: Some(stretch.until.unwrap_or(now)),
            ..*stretch
        });
        Past(stretches.collect())
    }

    /// The guest is what it was then.
    pub(crate) fn back_to(&mut self, past: &Past) {
        self.stretches.clone_from(&past.0);
        self.restored = true;
        self.begin();
    }

    /// The guest is what another VM's was: no handle of this VM's is of it.
    pub(crate) fn back_to_strange(&mut self) {
        self.boot();
        self.restored = true;
    }

    /// For a handle that is made now.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            stretch: self.last,
            moment: ResourceId::next(),
        }
    }

    /// Whether what was made then is there.
    pub(crate) fn holds(&self, mark: Mark) -> bool {
        self.stretches.iter().any(|stretch| {
            stretch.number == mark.stretch && stretch.until.is_none_or(|until| mark.moment < until)
        })
    }

    /// What made void that which no longer holds.
    pub(crate) fn how_void(&self) -> &'static str {
        if self.restored {
            "restored to a state without it"
        } else {
            "reset"
        }
    }

    fn begin(&mut self) {
        self.last += 1;
        self.stretches.push(Stretch {
            number: self.last,
            until: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_voids_all_and_a_snapshot_brings_back_what_was() {
        let mut timeline = Timeline::default();
        timeline.boot();
        let before = timeline.mark();
        let past = timeline.past();
        let after = timeline.mark();
        assert!(timeline.holds(before) && timeline.holds(after));

        timeline.back_to(&past);
        let later = timeline.mark();
        assert!(timeline.holds(before) && timeline.holds(later));
        assert!(!timeline.holds(after), "made after the snapshot");

        let nested = timeline.past();
        timeline.boot();
        assert!(
            ![before, after, later]
                .iter()
                .any(|mark| timeline.holds(*mark))
        );

        timeline.back_to(&nested);
        assert!(timeline.holds(before) && timeline.holds(later));
        timeline.back_to(&past);
        assert!(timeline.holds(before) && !timeline.holds(later));
    }

    #[test]
    fn nothing_holds_in_another_vm() {
        let mut timeline = Timeline::default();
        timeline.boot();
        let mark = timeline.mark();
        timeline.back_to_strange();
        assert!(!timeline.holds(mark), "restored from a stranger's snapshot");
    }
}
