//! A limited rate: each frame takes the time of its bits, and waits until those before it are sent.

use crate::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const NANOS: u128 = 1_000_000_000;
/// What waits by default is what the rate carries in this time, within the limits below.
const DEFAULT_QUEUE_TIME: u128 = 100_000_000;
const DEFAULT_QUEUE_MIN: u64 = 16 << 10;
const DEFAULT_QUEUE_MAX: u64 = 4 << 20;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Rate {
    limit: Option<Limit>,
    /// When the last frame is sent completely, and the part of a nanosecond beyond, in units of one
    /// nanosecond divided by the rate.
    free_at: Time,
    rest: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Limit {
    bits_per_second: u64,
    queue: u64,
}

impl Rate {
    pub(super) fn configure(&mut self, rate: Option<u64>, queue: Option<u64>) {
        let limit = rate.map(|rate| {
            let bits_per_second = rate.max(1);
            let default = u128::from(bits_per_second) * DEFAULT_QUEUE_TIME / NANOS / 8;
            let default = u64::try_from(default).unwrap_or(u64::MAX);
            Limit {
                bits_per_second,
                queue: queue.unwrap_or(default.clamp(DEFAULT_QUEUE_MIN, DEFAULT_QUEUE_MAX)),
            }
        });
        if self.limit != limit {
            // What was sent at another rate does not delay what follows.
            *self = Self {
                limit,
                ..Self::default()
            };
        }
    }

    /// When a frame that comes now has been sent; `None` if it does not fit in the queue.
    pub(super) fn departure(&mut self, now: Time, bytes: usize) -> Option<Time> {
        let Some(limit) = self.limit else {
            return Some(now);
        };
        let rate = u128::from(limit.bits_per_second);
        let (start, rest) = if self.free_at > now {
            let waiting = self.free_at.since(now).as_nanos() * rate / NANOS / 8;
            if waiting + bytes as u128 > u128::from(limit.queue) {
                return None;
            }
            (self.free_at, self.rest)
        } else {
            (now, 0)
        };
        let time = bytes as u128 * 8 * NANOS + u128::from(rest);
        let nanos = u64::try_from(time / rate).unwrap_or(u64::MAX);
        self.free_at = start + Duration::from_nanos(nanos);
        // A remainder of a division by a number of 64 bits has 64 bits.
        self.rest = (time % rate) as u64;
        Some(self.free_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(bits_per_second: u64, queue: u64) -> Rate {
        let mut rate = Rate::default();
        rate.configure(Some(bits_per_second), Some(queue));
        rate
    }

    #[test]
    fn a_frame_takes_the_time_of_its_bits() {
        let mut rate = rate(8_000_000, 10_000);
        let ms = |ms| Some(Time::ZERO + Duration::from_millis(ms));
        assert_eq!(rate.departure(Time::ZERO, 1_000), ms(1));
        assert_eq!(rate.departure(Time::ZERO, 1_000), ms(2));
        let later = Time::ZERO + Duration::from_millis(10);
        assert_eq!(rate.departure(later, 1_000), ms(11));
    }

    #[test]
    fn what_exceeds_the_queue_is_dropped() {
        let mut rate = rate(8_000_000, 3_000);
        let sent = (0..10)
            .filter(|_| rate.departure(Time::ZERO, 1_000).is_some())
            .count();
        // The frame that is being sent waits, too.
        assert_eq!(sent, 3);
        let later = Time::ZERO + Duration::from_millis(1);
        assert!(rate.departure(later, 1_000).is_some());
        assert!(rate.departure(later, 1_000).is_none());
    }

    #[test]
    fn rounding_does_not_add_up() {
        // 64 bytes at 3 Gbit/s take 170.67 ns.
        let mut rate = rate(3_000_000_000, u64::MAX);
        for _ in 1..3_000 {
            rate.departure(Time::ZERO, 64);
        }
        let last = rate.departure(Time::ZERO, 64);
        assert_eq!(last, Some(Time::from_nanos(512_000)));
    }

    #[test]
    fn any_rate_lets_one_frame_pass() {
        let mut rate = rate(0, 1);
        assert!(rate.departure(Time::ZERO, 9_000).is_some());
        assert!(rate.departure(Time::ZERO, 60).is_none());
    }
}
