//! The result of one trial of the tiny guest.

use std::time::Duration;

use super::Accel;
use serde::{Deserialize, Serialize};

/// The result of a trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Trial {
    /// The right result.
    Right {
        /// From the start of QEMU to the result.
        total: Duration,
        /// The guest's work alone.
        work: Duration,
    },
    /// A wrong result.
    Wrong(String),
    /// No result within this time.
    Unfinished(Duration),
    /// QEMU ended, in this way.
    Ended(String),
}

/// The time that the work takes on a processor of 3.3 GHz: 82 million steps, each of which waits four cycles
/// for the one before.
const HARDWARE: Duration = Duration::from_millis(100);

/// How much more than the trial's loop a kernel slows down under TCG. On a host that runs the loop 2.2 times
/// slower under TCG than by itself, processes were 5.0, system calls 4.5 and copies 4.2 times slower
/// (QEMU 7.2, medians of 3): page tables, faults and changes of privilege are what translation is slow at.
const KERNEL_UNDER_TCG: f64 = 2.3;

/// The largest timeout multiplier: with a larger one, a guest that hangs would look alive for too long.
const SLOWEST: f64 = 20.0;

impl Trial {
    /// How many times longer a guest's kernel takes under `accel` than on the processor, rounded to tenths; at
    /// least 1.
    pub(super) fn slowdown(&self, accel: Accel) -> f64 {
        let more = match accel {
            Accel::Kvm => 1.0,
            Accel::Tcg => KERNEL_UNDER_TCG,
        };
        let factor = match self {
            Self::Right { work, .. } => work.div_duration_f64(HARDWARE) * more,
            Self::Unfinished(_) => SLOWEST,
            // No guest runs there, so there is nothing to wait for.
            Self::Wrong(_) | Self::Ended(_) => 1.0,
        };
        (factor.clamp(1.0, SLOWEST) * 10.0).round() / 10.0
    }

    /// Why no guest can run, if none can.
    pub(super) fn fault(&self) -> Option<String> {
        match self {
            Self::Right { .. } | Self::Unfinished(_) => None,
            Self::Wrong(result) => Some(format!("the trial guest computed `{result}`")),
            Self::Ended(how) => Some(how.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowdown_follows_the_work_within_bounds() {
        let right = |work| Trial::Right {
            total: Duration::from_secs(1),
            work: Duration::from_millis(work),
        };
        assert_eq!(right(20).slowdown(Accel::Kvm), 1.0);
        assert_eq!(right(20).slowdown(Accel::Tcg), 1.0);
        assert_eq!(right(102).slowdown(Accel::Kvm), 1.0);
        assert_eq!(right(170).slowdown(Accel::Kvm), 1.7);
        assert_eq!(right(170).slowdown(Accel::Tcg), 3.9);
        assert_eq!(right(9_000).slowdown(Accel::Tcg), SLOWEST);
        assert_eq!(
            Trial::Unfinished(Duration::from_secs(10)).slowdown(Accel::Tcg),
            SLOWEST
        );
    }

    #[test]
    fn only_a_trial_that_ran_right_has_no_fault() {
        assert_eq!(Trial::Unfinished(Duration::from_secs(10)).fault(), None);
        assert!(
            Trial::Wrong("0 done".into())
                .fault()
                .unwrap()
                .contains("0 done")
        );
        assert!(Trial::Ended("QEMU is gone".into()).fault().is_some());
    }
}
