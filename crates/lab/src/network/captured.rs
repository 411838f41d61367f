//! The frames of a capture.

use crate::lock::lock;
use provium_switch::PortId;
use provium_switch::shell::{Capture, CapturedFrame};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll};

/// The frames of a capture.
#[derive(Debug)]
pub(crate) struct CapturedFrames {
    queue: Mutex<Capture>,
    /// The port that is captured; `None`: the whole bridge.
    pub(crate) port: Option<PortId>,
    /// Those that were taken out of the queue.
    list: Mutex<Vec<CapturedFrame>>,
}

impl CapturedFrames {
    pub(crate) fn new(port: Option<PortId>, queue: Capture) -> Self {
        Self {
            queue: Mutex::new(queue),
            port,
            list: Mutex::default(),
        }
    }

    /// Those that were taken out of the queue.
    pub(crate) fn list(&self) -> MutexGuard<'_, Vec<CapturedFrame>> {
        lock(&self.list)
    }

    /// Takes all out of the queue, and returns how many were lost.
    pub(crate) fn take_all(&self) -> u64 {
        let mut queue = lock(&self.queue);
        lock(&self.list).extend(std::iter::from_fn(|| queue.try_recv()));
        queue.lost()
    }

    /// Ready when there are more than `given`, or when no more come.
    pub(crate) fn poll_more(&self, given: usize, context: &mut Context<'_>) -> Poll<()> {
        let mut queue = lock(&self.queue);
        let mut list = lock(&self.list);
        // Others may have taken frames out of the queue meanwhile.
        if list.len() > given {
            return Poll::Ready(());
        }
        let next = pin!(queue.recv()).poll(context);
        next.map(|frame| list.extend(frame))
    }

    /// Takes no more.
    pub(crate) fn close(&self) {
        lock(&self.queue).close();
    }

    /// Continues with this queue, since its bridge was restored.
    pub(crate) fn continue_with(&self, queue: Capture) {
        let mut before = lock(&self.queue);
        lock(&self.list).extend(std::iter::from_fn(|| before.try_recv()));
        *before = queue;
    }
}
