//! The last frames of a switch, for the report of a failed test.

use crate::capture::summarize;
use crate::{DropReason, DroppedFrame, PortId};
use std::fmt;
use std::time::Duration;

/// Frames that are remembered after their delivery, and as many that were dropped.
pub const RECENT_FRAMES: usize = 32;
/// Bytes that are remembered of each: its headers.
pub const RECENT_BYTES: usize = 128;

/// One of the last frames that arrived or were dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentFrame {
    /// When it arrived or was dropped, since the epoch.
    pub time: Duration,
    /// The port that it came from.
    pub from: PortId,
    /// The port that it was for, the first one of several; `None` if it was dropped before that was determined.
    pub to: Option<PortId>,
    /// How many ports it arrived at after that one, at the same time.
    pub others: u32,
    /// What happened to it.
    pub outcome: FrameOutcome,
    /// Bytes of the frame.
    pub length: usize,
    /// Its first bytes, at most [`RECENT_BYTES`].
    pub head: Vec<u8>,
}

/// What happened to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameOutcome {
    /// It arrived.
    Delivered,
    /// The switch dropped it.
    Dropped(DropReason),
    /// It arrived at a port that is not connected.
    NotConnected,
    /// Its receiver had not read what came before it.
    ReceiverFull,
}

/// The last frames, in memory of a constant size.
#[derive(Debug)]
pub(super) struct Recent {
    delivered: RecentRing,
    /// Apart, so that frames that follow do not displace the explanation of a fault.
    dropped: RecentRing,
    next_sequence: u64,
}

#[derive(Debug)]
struct RecentRing {
    entries: Vec<Entry>,
    /// The oldest entry, once all are in use.
    next: usize,
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    time: Duration,
    from: PortId,
    to: Option<PortId>,
    others: u32,
    outcome: FrameOutcome,
    /// Identifies the frame while it is being delivered.
    address: usize,
    length: usize,
    head: [u8; RECENT_BYTES],
}

impl RecentFrame {
    /// One line about its contents.
    #[must_use]
    pub fn summary(&self) -> String {
        // The length fields of the headers are checked against the length of the frame.
        let mut frame = self.head.clone();
        frame.resize(self.length, 0);
        summarize(&frame).text
    }
}

impl fmt::Display for FrameOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered"),
            Self::Dropped(reason) => write!(f, "dropped: {}", reason.name()),
            Self::NotConnected => f.write_str("dropped: the port is not connected"),
            Self::ReceiverFull => f.write_str("dropped: the receiver does not read"),
        }
    }
}

impl Default for Recent {
    fn default() -> Self {
        let ring = || RecentRing {
            entries: Vec::with_capacity(RECENT_FRAMES),
            next: 0,
        };
        Self {
            delivered: ring(),
            dropped: ring(),
            next_sequence: 0,
        }
    }
}

impl Recent {
    /// Notes a frame that has arrived at a port. Until [`Recent::end_round`], copies of
    /// a frame for several ports become one entry.
    pub(super) fn note(
        &mut self,
        time: Duration,
        from: PortId,
        to: PortId,
        frame: &[u8],
        outcome: FrameOutcome,
    ) {
        if outcome == FrameOutcome::Delivered
            && let Some(last) = self.delivered.last()
            && last.address == frame.as_ptr().addr()
            && (last.from, last.length) == (from, frame.len())
            && last.to != Some(to)
        {
            last.others += 1;
            return;
        }
        let sequence = self.sequence();
        let ring = match outcome {
            FrameOutcome::Delivered => &mut self.delivered,
            _ => &mut self.dropped,
        };
        ring.push(Entry::new(sequence, time, (from, Some(to)), outcome, frame));
    }

    /// Notes a frame that the fabric has dropped.
    pub(super) fn note_drop(&mut self, time: Duration, dropped: &DroppedFrame) {
        let sequence = self.sequence();
        self.dropped.push(Entry::new(
            sequence,
            time,
            (dropped.from, dropped.to),
            FrameOutcome::Dropped(dropped.reason),
            &dropped.frame,
        ));
    }

    /// Ends a round of deliveries: memory of its frames may be used for others from now on.
    pub(super) fn end_round(&mut self) {
        if let Some(last) = self.delivered.last() {
            last.address = 0;
        }
    }

    /// The frames, oldest first.
    pub(super) fn list(&self) -> Vec<RecentFrame> {
        let rings = [&self.delivered, &self.dropped];
        let mut entries: Vec<&Entry> = rings.into_iter().flat_map(|ring| &ring.entries).collect();
        entries.sort_by_key(|entry| entry.sequence);
        entries.into_iter().map(Entry::shown).collect()
    }

    fn sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence
    }
}

impl RecentRing {
    fn push(&mut self, entry: Entry) {
        if self.entries.len() < RECENT_FRAMES {
            self.entries.push(entry);
        } else {
            self.entries[self.next] = entry;
            self.next = (self.next + 1) % RECENT_FRAMES;
        }
    }

    fn last(&mut self) -> Option<&mut Entry> {
        let count = self.entries.len();
        let at = (self.next + count).checked_sub(1)? % count.max(1);
        self.entries.get_mut(at)
    }
}

impl Entry {
    fn new(
        sequence: u64,
        time: Duration,
        (from, to): (PortId, Option<PortId>),
        outcome: FrameOutcome,
        frame: &[u8],
    ) -> Self {
        let mut head = [0; RECENT_BYTES];
        let kept = frame.len().min(RECENT_BYTES);
        head[..kept].copy_from_slice(&frame[..kept]);
        Self {
            sequence,
            time,
            from,
            to,
            others: 0,
            outcome,
            address: frame.as_ptr().addr(),
            length: frame.len(),
            head,
        }
    }

    fn shown(&self) -> RecentFrame {
        RecentFrame {
            time: self.time,
            from: self.from,
            to: self.to,
            others: self.others,
            outcome: self.outcome,
            length: self.length,
            head: self.head[..self.length.min(RECENT_BYTES)].to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const A: PortId = PortId(0);
    const B: PortId = PortId(1);
    const C: PortId = PortId(2);
    const NOW: Duration = Duration::from_secs(1);

    fn deliver(recent: &mut Recent, to: PortId, frame: &[u8]) {
        recent.note(NOW, A, to, frame, FrameOutcome::Delivered);
    }

    #[test]
    fn only_the_last_frames_are_kept_and_drops_have_their_own_place() {
        let mut recent = Recent::default();
        let dropped = DroppedFrame {
            reason: DropReason::Partition,
            from: A,
            to: Some(B),
            frame: Bytes::from_static(&[7; 60]),
        };
        recent.note_drop(NOW, &dropped);
        for n in 0..100_u8 {
            deliver(&mut recent, B, &[n; 200]);
            recent.end_round();
        }
        let list = recent.list();
        assert_eq!(list.len(), RECENT_FRAMES + 1);
        assert_eq!(list[0].outcome.to_string(), "dropped: partition");
        let kept: Vec<u8> = list[1..].iter().map(|frame| frame.head[0]).collect();
        assert!(kept.iter().copied().eq(68..100), "{kept:?}");
        assert_eq!((list[1].length, list[1].head.len()), (200, RECENT_BYTES));
    }

    #[test]
    fn a_frame_for_several_ports_is_one_entry() {
        let mut recent = Recent::default();
        let frame = [1; 60];
        for n in 0..RECENT_FRAMES + 5 {
            deliver(&mut recent, B, &frame);
            deliver(&mut recent, C, &frame);
            recent.end_round();
            let list = recent.list();
            assert_eq!(list.len(), (n + 1).min(RECENT_FRAMES));
            assert!(list.iter().all(|frame| frame.others == 1));
        }
    }

    #[test]
    fn a_summary_does_not_need_the_whole_frame() {
        let mut frame = vec![0x52, 0, 0, 0, 0, 2, 0x52, 0, 0, 0, 0, 1, 8, 0];
        frame.extend([
            0x45, 0, 1, 44, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        frame.extend([0, 53, 0x30, 0x39, 1, 24, 0, 0]);
        frame.resize(314, 7);
        let mut recent = Recent::default();
        deliver(&mut recent, B, &frame);
        assert_eq!(
            recent.list()[0].summary(),
            "IP 10.0.0.1.53 > 10.0.0.2.12345: UDP, 272 bytes of data, 314 bytes"
        );
    }
}
