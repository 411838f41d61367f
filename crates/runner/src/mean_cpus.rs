//! How many vCPUs a file holds on average, from looking at it now and then.
//!
//! The most that it held says little about a file that boots many VMs once and has one of them most of the
//! time: as its reservation, it would keep other files from starting for all of that time. Time goes in as
//! an argument.

use std::time::{Duration, Instant};

/// What was seen of a file.
#[derive(Debug)]
pub(crate) struct MeanCpus {
    since: Instant,
    seen_at: Instant,
    /// vCPUs times seconds, up to `seen_at`.
    sum: f64,
}

impl MeanCpus {
    /// Of a file that starts.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            since: now,
            seen_at: now,
            sum: 0.0,
        }
    }

    /// It holds so many now, and is taken to have held them since it was looked at before.
    pub(crate) fn saw(&mut self, now: Instant, held: u32) {
        self.sum += f64::from(held) * between(self.seen_at, now).as_secs_f64();
        self.seen_at = now;
    }

    /// The mean, to the nearest number; 0 for a file that was not seen.
    pub(crate) fn mean(&self) -> u32 {
        let seconds = between(self.since, self.seen_at).as_secs_f64();
        // At most what was held at a time, which is a `u32`; 0 for the quotient of zeros.
        (self.sum / seconds).round() as u32
    }
}

fn between(from: Instant, to: Instant) -> Duration {
    to.saturating_duration_since(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds at which a file is looked at, and the number of vCPUs that it holds.
    fn mean(seen: &[(u64, u32)]) -> u32 {
        let start = Instant::now();
        let mut mean = MeanCpus::new(start);
        for (second, held) in seen {
            mean.saw(start + Duration::from_secs(*second), *held);
        }
        mean.mean()
    }

    #[test]
    fn a_short_peak_hardly_counts() {
        assert_eq!(mean(&[(10, 1), (11, 32), (100, 1)]), 1);
    }

    #[test]
    fn it_is_rounded_to_the_nearest() {
        assert_eq!(mean(&[(6, 1), (10, 2)]), 1);
        assert_eq!(mean(&[(4, 1), (10, 2)]), 2);
        assert_eq!(mean(&[(3, 3), (10, 3)]), 3);
    }

    #[test]
    fn a_file_that_was_not_seen_has_none() {
        assert_eq!(mean(&[]), 0);
        assert_eq!(mean(&[(0, 2)]), 0);
    }
}
