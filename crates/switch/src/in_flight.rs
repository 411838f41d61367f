//! Frames that have left one port and have not arrived at the other.

use crate::{PortId, Time};
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A frame on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transit {
    pub(crate) due: Time,
    /// In the order in which frames were sent; of two frames that arrive at the same time, the one that was
    /// sent first arrives first.
    pub(crate) sequence: u64,
    pub(crate) from: PortId,
    pub(crate) to: PortId,
    pub(crate) frame: Bytes,
}

impl Ord for Transit {
    /// The greatest is the one that arrives first, as `BinaryHeap` needs it.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.sequence).cmp(&(self.due, self.sequence))
    }
}

impl PartialOrd for Transit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The frames in flight, in the order of their arrival.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight {
    heap: BinaryHeap<Transit>,
    next_sequence: u64,
}

impl InFlight {
    pub(crate) fn add(&mut self, due: Time, from: PortId, to: PortId, frame: Bytes) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.heap.push(Transit {
            due,
            sequence,
            from,
            to,
            frame,
        });
    }

    /// When the next frame arrives.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.heap.peek().map(|transit| transit.due)
    }

    /// Takes out the next frame that has arrived at `now`.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Transit> {
        if self.next_due()? > now {
            return None;
        }
        self.heap.pop()
    }

    /// Takes out the frames for which this holds, in the order of their arrival.
    pub(crate) fn take(&mut self, mut matches: impl FnMut(&Transit) -> bool) -> Vec<Transit> {
        if self.heap.is_empty() {
            return Vec::new();
        }
        let all = std::mem::take(&mut self.heap).into_vec();
        let (mut taken, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|t| matches(t));
        self.heap = kept.into();
        taken.sort_by_key(|transit| (transit.due, transit.sequence));
        taken
    }

    /// All frames, in the order of their arrival.
    pub(crate) fn ordered(&self) -> Vec<Transit> {
        let mut all: Vec<_> = self.heap.iter().cloned().collect();
        all.sort_by_key(|transit| (transit.due, transit.sequence));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(flight: &mut InFlight, due: u64, name: &'static str) {
        let due = Time::from_nanos(due);
        flight.add(
            due,
            PortId(0),
            PortId(1),
            Bytes::from_static(name.as_bytes()),
        );
    }

    #[test]
    fn frames_arrive_by_time_and_then_as_they_were_sent() {
        let mut flight = InFlight::default();
        for (due, name) in [(5, "late"), (3, "first"), (3, "second"), (1, "early")] {
            add(&mut flight, due, name);
        }
        assert_eq!(flight.next_due(), Some(Time::from_nanos(1)));
        let mut order = Vec::new();
        while let Some(transit) = flight.pop_due(Time::from_nanos(4)) {
            order.push(transit.frame);
        }
        assert_eq!(order, ["early", "first", "second"]);
        assert_eq!(flight.next_due(), Some(Time::from_nanos(5)));
    }

    #[test]
    fn frames_are_taken_out_by_a_condition() {
        let mut flight = InFlight::default();
        for (due, name) in [(2, "b"), (1, "a"), (3, "c")] {
            add(&mut flight, due, name);
        }
        let taken = flight.take(|transit| transit.frame != "b");
        assert_eq!(
            taken.iter().map(|t| &t.frame[..]).collect::<Vec<_>>(),
            [b"a", b"c"]
        );
        assert_eq!(flight.ordered().len(), 1);
    }
}
