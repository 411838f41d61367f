//! What the switch counts.

use serde::{Deserialize, Serialize};

/// Why a frame, or a copy of it for one destination, was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DropReason {
    /// Shorter than an Ethernet header.
    TooShort,
    /// The payload exceeds the MTU of the port that it came from or goes to.
    TooLong,
    /// The link of the port that it came from or goes to is down.
    LinkDown,
    /// The port that it came from or goes to is isolated.
    Isolated,
    /// The two ports are in different partitions.
    Partition,
    /// By the loss that was asked for.
    Loss,
    /// The queue of a path with a limited rate was full.
    QueueFull,
    /// Too many bytes were in flight on the path ([`IN_FLIGHT_LIMIT`](crate::IN_FLIGHT_LIMIT)).
    InFlightFull,
    /// The port that it goes to was removed while it was in flight.
    PortRemoved,
}

impl DropReason {
    /// All reasons, in the order of [`PathCounters::drops`].
    pub const ALL: [Self; 9] = [
        Self::TooShort,
        Self::TooLong,
        Self::LinkDown,
        Self::Isolated,
        Self::Partition,
        Self::Loss,
        Self::QueueFull,
        Self::InFlightFull,
        Self::PortRemoved,
    ];

    /// A short name for reports: lower case, words separated by spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooShort => "too short",
            Self::TooLong => "too long",
            Self::LinkDown => "link down",
            Self::Isolated => "isolated",
            Self::Partition => "partition",
            Self::Loss => "loss",
            Self::QueueFull => "queue full",
            Self::InFlightFull => "too much in flight",
            Self::PortRemoved => "port removed",
        }
    }
}

/// The frames of a port, as the guest behind it counts them: `tx` is what it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PortCounters {
    /// Frames that were delivered to the port.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames that came from the port, dropped ones included.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames that were delivered to the port, and dropped because its receiver did not read.
    pub rx_dropped: u64,
    /// Frames from the port that were dropped before their destination was looked up.
    pub tx_dropped: u64,
}

/// What happened on the path from one port to another. For every path,
/// `entered + duplicated == delivered + dropped() + in flight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PathCounters {
    /// Frames that entered the path.
    pub entered: u64,
    /// Frames that left it at its end.
    pub delivered: u64,
    /// Copies that were made.
    pub duplicated: u64,
    /// Frames in which a bit was changed.
    pub corrupted: u64,
    /// Frames that were held back, so that later ones overtake them.
    pub reordered: u64,
    /// Frames that were delayed, by latency or by the rate.
    pub delayed: u64,
    drops: [u64; DropReason::ALL.len()],
}

impl PathCounters {
    /// Frames that were dropped for this reason.
    #[must_use]
    pub const fn dropped_for(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Frames that were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// The reasons for which frames were dropped, with their numbers.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> {
        let counts = DropReason::ALL.into_iter().zip(self.drops);
        counts.filter(|(_, count)| *count > 0)
    }

    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_in_a_place_of_its_own() {
        let mut counters = PathCounters::default();
        for (count, reason) in (1..).zip(DropReason::ALL) {
            for _ in 0..count {
                counters.count_drop(reason);
            }
        }
        assert!(
            counters
                .drops()
                .map(|(reason, _)| reason)
                .eq(DropReason::ALL)
        );
        assert_eq!(counters.dropped_for(DropReason::TooShort), 1);
        assert_eq!(counters.dropped_for(DropReason::PortRemoved), 9);
        assert_eq!(counters.dropped(), 45);
    }
}
