//! The state of a port of the test script.

use crate::lock::lock;
use crate::network::member::Member;
use crate::resource::{Registration, ResourceId};
use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// The frames that have arrived at a port, with the times of their arrival since the epoch.
pub(crate) type FrameQueue = mpsc::Receiver<(Duration, bytes::Bytes)>;

/// A port of the test script.
pub(crate) struct ScriptPort {
    pub(crate) id: ResourceId,
    pub(crate) member: Member,
    frames: Mutex<FrameQueue>,
    is_closed: AtomicBool,
    pub(crate) place: Registration,
}

impl ScriptPort {
    pub(crate) fn new(id: ResourceId, member: Member, frames: FrameQueue) -> Self {
        Self {
            id,
            member,
            frames: Mutex::new(frames),
            is_closed: AtomicBool::new(false),
            place: Registration::default(),
        }
    }

    /// Whether it was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Closes it; false if it was closed already.
    pub(crate) fn close(&self) -> bool {
        !self.is_closed.swap(true, Ordering::AcqRel)
    }

    /// Continues with these frames, since its bridge was restored.
    pub(crate) fn continue_with(&self, frames: FrameQueue) {
        // A call that waits finds the old queue ended, and looks again.
        *lock(&self.frames) = frames;
    }

    /// The next frame; `None` if its bridge has it no more.
    pub(crate) async fn next_frame(&self) -> Option<(Duration, bytes::Bytes)> {
        loop {
            let frame = poll_fn(|context| lock(&self.frames).poll_recv(context)).await;
            // The queue may have been replaced while it was waited for.
            if frame.is_some() || lock(&self.frames).is_closed() {
                return frame;
            }
        }
    }
}
