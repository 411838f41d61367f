//! Latency and jitter.

use super::stage_rng::StageRng;
use crate::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Delay {
    rng: StageRng,
    latency: Duration,
    jitter: Duration,
    /// When the frame before arrives.
    last: Time,
}

impl Delay {
    pub(super) fn new(rng: StageRng) -> Self {
        Self {
            rng,
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            last: Time::ZERO,
        }
    }

    pub(super) fn configure(&mut self, latency: Option<Duration>, jitter: Option<Duration>) {
        let (latency, jitter) = (latency.unwrap_or_default(), jitter.unwrap_or_default());
        if (latency, jitter) != (self.latency, self.jitter) {
            (self.latency, self.jitter) = (latency, jitter);
            // Frames that follow a shorter latency overtake those that were sent with the longer one.
            self.last = Time::ZERO;
        }
    }

    /// When a frame arrives that was sent at `departure`.
    pub(super) fn arrival(&mut self, departure: Time) -> Time {
        let mut latency = self.latency;
        if !self.jitter.is_zero() {
            let jitter = u64::try_from(self.jitter.as_nanos()).unwrap_or(u64::MAX);
            let drawn = Duration::from_nanos(self.rng.u64(0..=jitter.saturating_mul(2)));
            latency = (latency + drawn).saturating_sub(self.jitter);
        }
        self.last = self.last.max(departure + latency);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delay(latency: u64, jitter: u64) -> Delay {
        let mut delay = Delay::new(StageRng::new(1, 1));
        delay.configure(
            Some(Duration::from_millis(latency)),
            Some(Duration::from_millis(jitter)),
        );
        delay
    }

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn latency_is_exact() {
        let mut delay = delay(20, 0);
        assert_eq!(delay.arrival(at(5)), at(25));
        assert_eq!(delay.arrival(at(6)), at(26));
    }

    #[test]
    fn jitter_is_uniform_around_the_latency() {
        let mut delay = delay(20, 10);
        // Far apart, so that no frame waits for the one before it.
        let latencies: Vec<u128> = (0..10_000)
            .map(|n| at(n * 100))
            .map(|sent| delay.arrival(sent).since(sent).as_micros())
            .collect();
        assert!(latencies.iter().all(|l| (10_000..=30_000).contains(l)));
        let mean = latencies.iter().sum::<u128>() / 10_000;
        // Standard deviation of the mean: 58.
        assert!((19_700..=20_300).contains(&mean), "{mean}");
        let low = latencies.iter().filter(|l| **l < 15_000).count();
        assert!((2_240..=2_760).contains(&low), "{low}");
    }

    #[test]
    fn jitter_does_not_reorder() {
        let mut delay = delay(20, 20);
        let arrivals: Vec<Time> = (0..1_000).map(|n| delay.arrival(at(n))).collect();
        assert!(arrivals.is_sorted());
        assert!(
            arrivals
                .iter()
                .zip(0..)
                .all(|(arrival, n)| *arrival >= at(n))
        );
    }

    #[test]
    fn a_shorter_latency_holds_at_once() {
        let mut delay = delay(1_000, 0);
        assert_eq!(delay.arrival(at(0)), at(1_000));
        delay.configure(Some(Duration::from_millis(1)), None);
        assert_eq!(delay.arrival(at(1)), at(2));
    }
}
