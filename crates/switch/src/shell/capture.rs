//! Frames that are kept until a test reads them.

use super::clock::since_epoch;
use crate::PortId;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes that a capture keeps for its reader, with [`FRAME_OVERHEAD`] for each frame. Later frames are lost,
/// and counted, until some have been read.
pub const CAPTURE_LIMIT: usize = 64 << 20;
/// What a captured frame takes in memory in addition to its bytes.
pub const FRAME_OVERHEAD: usize = 128;

/// A frame that passed a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedFrame {
    /// Since the epoch.
    pub time: Duration,
    /// The port that it came from.
    pub from: PortId,
    /// The port that it arrived at; `None`: it was captured when it came from its port.
    pub to: Option<PortId>,
    /// The frame.
    pub frame: Bytes,
    /// How many frames this capture had lost before this one.
    pub lost_before: u64,
}

/// The frames of a port, or of a switch, in the order in which they passed. It may be read at any time; a
/// reader that comes late finds all frames up to [`CAPTURE_LIMIT`].
#[derive(Debug)]
pub struct Capture {
    frames: mpsc::UnboundedReceiver<CapturedFrame>,
    usage: Arc<Usage>,
}

/// What a switch writes captured frames to.
#[derive(Debug)]
pub(super) struct Tap {
    /// `None`: each frame once, when it comes from its port.
    port: Option<PortId>,
    frames: mpsc::UnboundedSender<CapturedFrame>,
    usage: Arc<Usage>,
}

#[derive(Debug, Default)]
struct Usage {
    /// Bytes that have not been read.
    waiting: AtomicUsize,
    lost: AtomicU64,
}

impl Capture {
    pub(super) fn new(port: Option<PortId>) -> (Tap, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let usage = Arc::new(Usage::default());
        let tap = Tap {
            port,
            frames: sender,
            usage: Arc::clone(&usage),
        };
        let capture = Self {
            frames: receiver,
            usage,
        };
        (tap, capture)
    }

    /// The next frame, when there is one; `None` after the last one of a capture that has ended.
    pub async fn recv(&mut self) -> Option<CapturedFrame> {
        let frame = self.frames.recv().await?;
        Some(self.taken(frame))
    }

    /// The next frame, if it has been captured already.
    pub fn try_recv(&mut self) -> Option<CapturedFrame> {
        let frame = self.frames.try_recv().ok()?;
        Some(self.taken(frame))
    }

    /// Whether no frame waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Frames that were not kept because [`CAPTURE_LIMIT`] was reached.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.usage.lost.load(Ordering::Relaxed)
    }

    /// Ends the capture. What it has kept can still be read.
    pub fn close(&mut self) {
        self.frames.close();
    }

    fn taken(&self, frame: CapturedFrame) -> CapturedFrame {
        let size = FRAME_OVERHEAD + frame.frame.len();
        self.usage.waiting.fetch_sub(size, Ordering::Relaxed);
        frame
    }
}

impl Tap {
    fn wants(&self, from: PortId, to: Option<PortId>) -> bool {
        match self.port {
            None => to.is_none(),
            Some(port) => to.map_or(from == port, |to| to == port),
        }
    }

    fn keep(&self, mut frame: CapturedFrame) {
        let size = FRAME_OVERHEAD + frame.frame.len();
        // The reader only ever makes room, so a sum that fits now still fits after the addition.
        if self.usage.waiting.load(Ordering::Relaxed) + size > CAPTURE_LIMIT {
            self.usage.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.usage.waiting.fetch_add(size, Ordering::Relaxed);
        frame.lost_before = self.usage.lost.load(Ordering::Relaxed);
        // An error means that the capture has ended.
        let _ = self.frames.send(frame);
    }
}

/// Gives a frame to the captures that want it, and removes captures that have ended.
pub(super) fn capture(taps: &mut Vec<Tap>, from: PortId, to: Option<PortId>, frame: &Bytes) {
    taps.retain(|tap| {
        if tap.wants(from, to) {
            tap.keep(CapturedFrame {
                time: since_epoch(),
                from,
                to,
                // A part of a larger buffer would keep all of it in memory.
                frame: Bytes::copy_from_slice(frame),
                lost_before: 0,
            });
        }
        !tap.frames.is_closed()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PortId = PortId(0);

    #[test]
    fn a_capture_that_is_not_read_counts_what_it_loses() {
        let (tap, mut frames) = Capture::new(None);
        let mut taps = vec![tap];
        let frame = Bytes::from(vec![0; (1 << 20) - FRAME_OVERHEAD]);
        for _ in 0..70 {
            capture(&mut taps, A, None, &frame);
        }
        assert_eq!(frames.lost(), 6);
        frames.try_recv().expect("a frame");
        capture(&mut taps, A, None, &frame);
        assert_eq!(frames.lost(), 6);
        let kept = std::iter::from_fn(|| frames.try_recv());
        let lost_before: Vec<u64> = kept.map(|frame| frame.lost_before).collect();
        assert_eq!(lost_before.len(), 64);
        assert_eq!(lost_before[62..], [0, 6], "the gap is before the last one");
    }

    #[test]
    fn what_was_captured_can_be_read_after_the_end() {
        let (tap, mut frames) = Capture::new(Some(A));
        let mut taps = vec![tap];
        capture(&mut taps, A, None, &Bytes::from_static(b"kept"));
        frames.close();
        capture(&mut taps, A, None, &Bytes::from_static(b"too late"));
        assert!(taps.is_empty());
        assert_eq!(frames.try_recv().expect("a frame").frame, "kept");
        assert_eq!(frames.try_recv(), None);
    }
}
