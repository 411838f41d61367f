//! What may happen to the frames of a path.

use super::Probability;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What happens to frames. Fields that are `None` have no effect.
///
/// Where several scopes contain a path, their impairments are combined: latencies and jitters add up, loss,
/// reordering, duplication and corruption are independent of each other, the smallest rate and the
/// smallest queue apply, and the longest bursts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Impairment {
    /// Time from one end to the other.
    pub latency: Option<Duration>,
    /// The latency differs by up to this, up and down, with a uniform distribution, and is never
    /// negative. Jitter does not reorder: a frame arrives no earlier than the one before it.
    pub jitter: Option<Duration>,
    /// Share of the frames that are lost.
    pub loss: Option<Probability>,
    /// Mean number of frames that are lost in succession, 1.0 or more. The share of lost frames stays
    /// the same: longer bursts are rarer (Gilbert's model).
    pub burst: Option<f64>,
    /// Share of the frames that arrive twice.
    pub duplicate: Option<Probability>,
    /// Share of the frames that are held back for [`REORDER_GAP`](crate::REORDER_GAP) more than
    /// the others, so that those that follow closely overtake them.
    pub reorder: Option<Probability>,
    /// Share of the frames in which one bit after the Ethernet header is inverted.
    pub corrupt: Option<Probability>,
    /// Bits per second that the path carries, counting the bytes of the frames. At least 1.
    pub rate: Option<u64>,
    /// Bytes that wait for the rate; a frame that does not fit is dropped. The default is what the
    /// rate carries in 100 ms, between 16 KiB and 4 MiB.
    pub queue: Option<u64>,
}

impl Impairment {
    /// This, with the fields of `other` that are set in place of its own.
    pub(crate) fn updated_by(self, other: Self) -> Self {
        Self {
            latency: other.latency.or(self.latency),
            jitter: other.jitter.or(self.jitter),
            loss: other.loss.or(self.loss),
            burst: other.burst.or(self.burst),
            duplicate: other.duplicate.or(self.duplicate),
            reorder: other.reorder.or(self.reorder),
            corrupt: other.corrupt.or(self.corrupt),
            rate: other.rate.or(self.rate),
            queue: other.queue.or(self.queue),
        }
    }

    /// What both together do.
    pub(crate) fn combined_with(self, other: Self) -> Self {
        Self {
            latency: merge(self.latency, other.latency, Duration::saturating_add),
            jitter: merge(self.jitter, other.jitter, Duration::saturating_add),
            loss: merge(self.loss, other.loss, Probability::or),
            burst: merge(self.burst, other.burst, f64::max),
            duplicate: merge(self.duplicate, other.duplicate, Probability::or),
            reorder: merge(self.reorder, other.reorder, Probability::or),
            corrupt: merge(self.corrupt, other.corrupt, Probability::or),
            rate: merge(self.rate, other.rate, u64::min),
            queue: merge(self.queue, other.queue, u64::min),
        }
    }
}

fn merge<T>(a: Option<T>, b: Option<T>, both: impl FnOnce(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(both(a, b)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_of_two_links_in_a_row_decides_the_rate() {
        let slow = Impairment {
            rate: Some(1_000),
            queue: Some(9_000),
            ..Impairment::default()
        };
        let fast = Impairment {
            rate: Some(2_000),
            queue: Some(5_000),
            burst: Some(2.0),
            ..Impairment::default()
        };
        let both = slow.combined_with(fast);
        assert_eq!((both.rate, both.queue), (Some(1_000), Some(5_000)));
        assert_eq!(both, fast.combined_with(slow));
        assert_eq!(slow.combined_with(Impairment::default()), slow);
    }
}
