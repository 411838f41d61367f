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
    queue: Mutex<Queue>,
    /// The port that is captured; `None`: the whole bridge.
    pub(crate) port: Option<PortId>,
    /// Those that were taken out of the queue.
    list: Mutex<Vec<CapturedFrame>>,
}

/// Where the frames come from.
#[derive(Debug)]
struct Queue {
    frames: Capture,
    /// Frames that the queues before this one had lost.
    lost_earlier: u64,
}

impl Queue {
    fn lost(&self) -> u64 {
        self.lost_earlier + self.frames.lost()
    }

    /// A frame of this queue, as one of the whole capture.
    fn of_capture(&self, mut frame: CapturedFrame) -> CapturedFrame {
        frame.lost_before += self.lost_earlier;
        frame
    }

    fn take_into(&mut self, list: &mut Vec<CapturedFrame>) {
        while let Some(frame) = self.frames.try_recv() {
            list.push(self.of_capture(frame));
        }
    }
}

impl CapturedFrames {
    pub(crate) fn new(port: Option<PortId>, queue: Capture) -> Self {
        Self {
            queue: Mutex::new(Queue {
                frames: queue,
                lost_earlier: 0,
            }),
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
        queue.take_into(&mut lock(&self.list));
        queue.lost()
    }

    /// Ready when there are more than `given`, when more than `reported` were lost, or when no more come. Returns how
    /// many were lost so far.
    pub(crate) fn poll_more(
        &self,
        given: usize,
        reported: u64,
        context: &mut Context<'_>,
    ) -> Poll<u64> {
        let mut queue = lock(&self.queue);
        let mut list = lock(&self.list);
        // Before the queue is read: if it is empty then, all frames that precede the gap were taken.
        let lost = queue.lost();
        // Others may have taken frames out of the queue meanwhile.
        if list.len() > given {
            return Poll::Ready(lost);
        }
        let next = pin!(queue.frames.recv()).poll(context);
        match next {
            Poll::Ready(frame) => list.extend(frame.map(|frame| queue.of_capture(frame))),
            // Frames are lost only while others wait, and those wake the reader.
            Poll::Pending if lost <= reported => return Poll::Pending,
            // The runtime may want other tasks to run first.
            Poll::Pending if !queue.frames.is_empty() => return Poll::Pending,
            Poll::Pending => {}
        }
        Poll::Ready(lost)
    }

    /// Takes no more.
    pub(crate) fn close(&self) {
        lock(&self.queue).frames.close();
    }

    /// Continues with this queue, since its bridge was restored.
    pub(crate) fn continue_with(&self, frames: Capture) {
        let mut queue = lock(&self.queue);
        queue.take_into(&mut lock(&self.list));
        *queue = Queue {
            lost_earlier: queue.lost(),
            frames,
        };
    }
}
