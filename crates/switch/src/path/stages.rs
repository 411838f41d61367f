//! The stages of a path in their order.

use super::corrupt::Corruption;
use super::delay::Delay;
use super::duplicate::Duplication;
use super::loss::Loss;
use super::rate::Rate;
use super::reorder::Reordering;
use super::stage_rng::StageRng;
use crate::{DropReason, Impairment, PathCounters, Time};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes that may be in flight on one path. What does not fit is dropped, so that long delays at high rates
/// do not exhaust memory: a delay of 100 ms holds 5 Gbit/s.
pub const IN_FLIGHT_LIMIT: usize = 64 << 20;

/// The state of one directed pair of ports.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Path {
    /// Why nothing passes.
    obstacle: Option<DropReason>,
    impairment: Impairment,
    loss: Loss,
    rate: Rate,
    delay: Delay,
    reorder: Reordering,
    duplicate: Duplication,
    corrupt: Corruption,
    in_flight: usize,
    pub(crate) counters: PathCounters,
}

/// What happened to a frame that entered a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PathOutcome {
    Dropped(DropReason),
    /// It arrives at `due`, and so does its copy, if it has one.
    Sent {
        due: Time,
        frame: Bytes,
        copy: Option<Bytes>,
    },
}

impl Path {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            obstacle: None,
            impairment: Impairment::default(),
            loss: Loss::new(StageRng::new(seed, 1)),
            rate: Rate::default(),
            delay: Delay::new(StageRng::new(seed, 2)),
            reorder: Reordering::new(StageRng::new(seed, 3)),
            duplicate: Duplication::new(StageRng::new(seed, 4)),
            corrupt: Corruption::new(StageRng::new(seed, 5)),
            in_flight: 0,
            counters: PathCounters::default(),
        }
    }

    /// Applies rules to the frames that follow. Returns why what is in flight has to be dropped, if so.
    pub(crate) fn configure(
        &mut self,
        obstacle: Option<DropReason>,
        impairment: Impairment,
    ) -> Option<DropReason> {
        self.obstacle = obstacle;
        if self.impairment != impairment {
            self.impairment = impairment;
            self.loss.configure(impairment.loss, impairment.burst);
            self.rate.configure(impairment.rate, impairment.queue);
            self.delay.configure(impairment.latency, impairment.jitter);
            self.reorder.probability = impairment.reorder.unwrap_or_default();
            self.duplicate.probability = impairment.duplicate.unwrap_or_default();
            self.corrupt.probability = impairment.corrupt.unwrap_or_default();
        }
        obstacle
    }

    /// Sends a frame on its way.
    pub(crate) fn enter(&mut self, now: Time, frame: Bytes) -> PathOutcome {
        self.counters.entered += 1;
        if let Some(reason) = self.obstacle {
            return self.drop_for(reason);
        }
        if self.impairment == Impairment::default() {
            return PathOutcome::Sent {
                due: now,
                frame,
                copy: None,
            };
        }
        if self.loss.loses_next() {
            return self.drop_for(DropReason::Loss);
        }
        let Some(departure) = self.rate.departure(now, frame.len()) else {
            return self.drop_for(DropReason::QueueFull);
        };
        let mut due = self.delay.arrival(departure);
        if let Some(later) = self.reorder.held_back_until(due) {
            due = later;
            self.counters.reordered += 1;
        }
        if due > now {
            if self.in_flight + frame.len() > IN_FLIGHT_LIMIT {
                return self.drop_for(DropReason::InFlightFull);
            }
            self.counters.delayed += 1;
        }
        let copy = self.duplicate.is_next().then(|| frame.clone());
        self.counters.duplicated += u64::from(copy.is_some());
        let frame = self.corrupted(frame);
        let copy = copy.map(|copy| self.corrupted(copy));
        PathOutcome::Sent { due, frame, copy }
    }

    /// Counts a frame that cannot enter.
    pub(crate) fn refuse(&mut self, reason: DropReason) -> PathOutcome {
        self.counters.entered += 1;
        self.drop_for(reason)
    }

    fn corrupted(&mut self, frame: Bytes) -> Bytes {
        match self.corrupt.changed(&frame) {
            Some(changed) => {
                self.counters.corrupted += 1;
                changed
            }
            None => frame,
        }
    }

    fn drop_for(&mut self, reason: DropReason) -> PathOutcome {
        self.counters.count_drop(reason);
        PathOutcome::Dropped(reason)
    }

    /// Bytes of the frames that wait for their arrival.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Notes that a frame of this path waits for its arrival.
    pub(crate) fn add_in_flight(&mut self, bytes: usize) {
        self.in_flight += bytes;
    }

    /// Notes that a frame does not wait any more.
    pub(crate) fn remove_in_flight(&mut self, bytes: usize) {
        self.in_flight -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Probability;
    use std::time::Duration;

    fn path(impairment: Impairment) -> Path {
        let mut path = Path::new(7);
        assert_eq!(path.configure(None, impairment), None);
        path
    }

    fn lost_frames(path: &mut Path) -> Vec<usize> {
        let passages = (0..1_000).map(|_| path.enter(Time::ZERO, Bytes::from_static(&[0; 60])));
        let lost = passages
            .enumerate()
            .filter(|(_, p)| matches!(p, PathOutcome::Dropped(_)));
        lost.map(|(at, _)| at).collect()
    }

    #[test]
    fn which_frames_are_lost_does_not_depend_on_other_impairments() {
        let loss = Impairment {
            loss: Probability::percent(10.0),
            ..Impairment::default()
        };
        let more = Impairment {
            latency: Some(Duration::from_millis(10)),
            jitter: Some(Duration::from_millis(5)),
            duplicate: Probability::percent(20.0),
            ..loss
        };
        assert_eq!(lost_frames(&mut path(loss)), lost_frames(&mut path(more)));
    }

    #[test]
    fn too_many_bytes_in_flight_are_dropped() {
        let mut path = path(Impairment {
            latency: Some(Duration::from_secs(1)),
            ..Impairment::default()
        });
        path.add_in_flight(IN_FLIGHT_LIMIT - 100);
        let dropped = PathOutcome::Dropped(DropReason::InFlightFull);
        assert_eq!(
            path.enter(Time::ZERO, Bytes::from_static(&[0; 101])),
            dropped
        );
        assert_ne!(
            path.enter(Time::ZERO, Bytes::from_static(&[0; 100])),
            dropped
        );
    }

    #[test]
    fn an_obstacle_drops_all_and_is_counted() {
        let mut path = Path::new(1);
        let partition = Some(DropReason::Partition);
        assert_eq!(path.configure(partition, Impairment::default()), partition);
        for _ in 0..3 {
            let passage = path.enter(Time::ZERO, Bytes::from_static(&[0; 60]));
            assert_eq!(passage, PathOutcome::Dropped(DropReason::Partition));
        }
        assert_eq!(path.counters.dropped_for(DropReason::Partition), 3);
        assert_eq!(path.counters.entered, 3);
    }
}
