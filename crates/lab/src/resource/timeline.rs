//! Tracks which handles are valid for the guest as it is now.
//!
//! A handle (a file, a process, a worker) has a [`HandleEpoch`]: when it was made. A boot or a reset invalidates
//! all handles before it. The restore of a snapshot invalidates those that were made after the snapshot, and
//! those that were made before it are valid again.

use crate::resource::id::ResourceId;
use std::fmt;

/// When a handle was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HandleEpoch {
    epoch: u64,
    moment: ResourceId,
}

impl HandleEpoch {
    /// Whether the guest was neither booted, reset nor restored between the two.
    pub(crate) fn is_same_epoch(self, other: Self) -> bool {
        self.epoch == other.epoch
    }
}

/// What has given a VM another guest, or another state of its guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum GuestChange {
    /// The test booted it.
    #[default]
    Boot,
    /// The test reset it.
    Reset,
    /// The guest rebooted by itself.
    Reboot,
    /// It was restored to a snapshot.
    Restore,
}

impl fmt::Display for GuestChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boot => "booted again",
            Self::Reset => "reset",
            Self::Reboot => "rebooted by its guest",
            Self::Restore => "restored to a snapshot",
        })
    }
}

/// The time from a boot, a reset or a restore to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Epoch {
    number: u64,
    /// Up to when it is part of the guest's history; `None`: it has not ended.
    until: Option<ResourceId>,
}

/// The epochs that are part of the guest's history, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Timeline {
    epochs: Vec<Epoch>,
    /// The number of the latest one.
    last: u64,
    /// How that one began.
    change: GuestChange,
}

/// The timeline at the moment of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimelineHistory(Vec<Epoch>);

impl Timeline {
    /// The guest boots, as `change` says: no handle is valid any more.
    pub(crate) fn boot(&mut self, change: GuestChange) {
        self.epochs.clear();
        self.begin(change);
    }

    /// The timeline as it is now, for a snapshot.
    pub(crate) fn history(&self) -> TimelineHistory {
        let now = ResourceId::next();
        let epochs = self.epochs.iter().map(|epoch| Epoch {
            until: Some(epoch.until.unwrap_or(now)),
            ..*epoch
        });
        TimelineHistory(epochs.collect())
    }

    /// The guest is restored to that snapshot of this VM.
    pub(crate) fn restore_to(&mut self, history: &TimelineHistory) {
        self.epochs.clone_from(&history.0);
        self.begin(GuestChange::Restore);
    }

    /// The guest is restored from another VM's snapshot: no handle of this VM is valid.
    pub(crate) fn restore_foreign(&mut self) {
        self.boot(GuestChange::Restore);
    }

    /// For a handle that is made now.
    pub(crate) fn mark(&self) -> HandleEpoch {
        HandleEpoch {
            epoch: self.last,
            moment: ResourceId::next(),
        }
    }

    /// Whether a handle that was made then is valid.
    pub(crate) fn is_valid(&self, mark: HandleEpoch) -> bool {
        self.epochs.iter().any(|epoch| {
            epoch.number == mark.epoch && epoch.until.is_none_or(|until| mark.moment < until)
        })
    }

    /// What happened to the guest last.
    pub(crate) fn last_change(&self) -> GuestChange {
        self.change
    }

    fn begin(&mut self, change: GuestChange) {
        self.change = change;
        self.last += 1;
        self.epochs.push(Epoch {
            number: self.last,
            until: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_invalidates_all_handles_and_a_restore_validates_older_ones() {
        let mut timeline = Timeline::default();
        timeline.boot(GuestChange::Boot);
        let before = timeline.mark();
        let past = timeline.history();
        let after = timeline.mark();
        assert!(timeline.is_valid(before) && timeline.is_valid(after));

        timeline.restore_to(&past);
        let later = timeline.mark();
        assert!(timeline.is_valid(before) && timeline.is_valid(later));
        assert!(!timeline.is_valid(after), "made after the snapshot");
        assert_eq!(timeline.last_change(), GuestChange::Restore);

        let nested = timeline.history();
        timeline.boot(GuestChange::Boot);
        assert!(
            ![before, after, later]
                .iter()
                .any(|mark| timeline.is_valid(*mark))
        );

        timeline.restore_to(&nested);
        assert!(timeline.is_valid(before) && timeline.is_valid(later));
        timeline.restore_to(&past);
        assert!(timeline.is_valid(before) && !timeline.is_valid(later));
    }

    #[test]
    fn a_foreign_snapshot_invalidates_all_handles() {
        let mut timeline = Timeline::default();
        timeline.boot(GuestChange::Boot);
        let mark = timeline.mark();
        timeline.restore_foreign();
        assert!(
            !timeline.is_valid(mark),
            "restored from another VM's snapshot"
        );
    }
}
