//! The best of the trials of one accelerator.
//!
//! A busy host lengthens a trial, also its processor time: threads share a core, and hypervisors take time
//! away. So the shortest trial is the one to believe. A trial that looks disturbed is repeated, now and in
//! later runs, until one does not or there were [enough](MOST_TRIALS).

use super::Accel;
use super::trial::Trial;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Trials in a row, while they look disturbed.
const MOST_IN_A_ROW: u32 = 3;

/// Trials of all runs until the host reboots: then it is slow, and not busy.
const MOST_TRIALS: u32 = 12;

/// What QEMU takes to start and stop, where the host is idle: with more than this and the time of the
/// guest's work, a trial was disturbed.
const OVERHEAD: Duration = Duration::from_millis(300);

/// A kernel that is slower than this by emulation is doubted. Hosts of the last ten years were at 3 to 6.
const UNLIKELY: f64 = 7.0;

/// The best trial, and how many there were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Measurement {
    pub(super) trial: Trial,
    trials: u32,
}

impl Measurement {
    pub(super) fn new(trial: Trial) -> Self {
        Self { trial, trials: 1 }
    }

    /// Adds a trial, and keeps the better one.
    pub(super) fn add(&mut self, trial: Trial) {
        self.trials = self.trials.saturating_add(1);
        let is_better = match (&trial, &self.trial) {
            (Trial::Right { work: new, .. }, Trial::Right { work: old, .. }) => new < old,
            (Trial::Right { .. }, _) => true,
            // Neither is better than the other; the later one describes the host of now.
            (_, Trial::Right { .. }) => false,
            _ => true,
        };
        if is_better {
            self.trial = trial;
        }
    }

    /// Whether the trial should be repeated in this run, which has made `made` already.
    pub(super) fn wants_another(&self, accel: Accel, made: u32) -> bool {
        let limit = match self.trial {
            // It takes long each time.
            Trial::Unfinished(_) => 1,
            _ => MOST_IN_A_ROW,
        };
        // A run that finds a doubtful result makes one trial more, not several: it has to start.
        let limit = if made == 0 || self.trials == made {
            limit
        } else {
            1
        };
        self.trials < MOST_TRIALS && made < limit && is_doubtful(&self.trial, accel)
    }
}

/// Whether a trial looks disturbed by other work on the host.
fn is_doubtful(trial: &Trial, accel: Accel) -> bool {
    match trial {
        Trial::Right { total, work } => {
            *total > *work * 2 + OVERHEAD || trial.slowdown(accel) > UNLIKELY
        }
        // KVM crawls on hosts on which it is not usable.
        Trial::Unfinished(_) => accel == Accel::Tcg,
        Trial::Wrong(_) | Trial::Ended(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(total: u64, work: u64) -> Trial {
        Trial::Right {
            total: Duration::from_millis(total),
            work: Duration::from_millis(work),
        }
    }

    #[test]
    fn the_shortest_right_trial_is_kept() {
        let mut measured = Measurement::new(right(900, 600));
        measured.add(right(400, 200));
        measured.add(right(500, 300));
        measured.add(Trial::Wrong("0 done".into()));
        assert_eq!(measured.trial, right(400, 200));
        let mut measured = Measurement::new(Trial::Unfinished(Duration::from_secs(10)));
        measured.add(right(400, 200));
        assert_eq!(measured.trial, right(400, 200));
    }

    #[test]
    fn a_disturbed_trial_is_repeated_and_not_forever() {
        let wants = |trial, made| Measurement::new(trial).wants_another(Accel::Tcg, made);
        assert!(!wants(right(400, 200), 1));
        assert!(wants(right(900, 200), 1), "the host was busy");
        assert!(wants(right(600, 500), 1), "unlikely");
        assert!(!wants(right(600, 500), 3));
        let unfinished = Trial::Unfinished(Duration::from_secs(10));
        assert!(!wants(unfinished.clone(), 1));
        assert!(wants(unfinished.clone(), 0), "in the next run");
        let crawls = Measurement::new(unfinished);
        assert!(!crawls.wants_another(Accel::Kvm, 0));

        let mut slow = Measurement::new(right(900, 800));
        slow.add(right(900, 800));
        assert!(slow.wants_another(Accel::Tcg, 0), "a later run");
        slow.add(right(900, 800));
        assert!(!slow.wants_another(Accel::Tcg, 1), "which makes one");
        for _ in 0..MOST_TRIALS {
            slow.add(right(900, 800));
        }
        assert!(!slow.wants_another(Accel::Tcg, 0), "it is slow");
    }
}
