//! Where events go: from any thread, in one order, without waiting for whoever reads them.

use crate::event::Event;
use crate::frame::Stamped;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Takes events. Clones lead to the same place.
///
/// Reading what a sink took is the receiver's business; once the receiver is gone, events are
/// dropped in silence.
#[derive(Debug, Clone, Default)]
pub struct Sink(Option<Arc<Mutex<Queue>>>);

#[derive(Debug)]
struct Queue {
    sender: Sender<Stamped>,
    last: i64,
}

impl Sink {
    /// A sink that forgets.
    pub fn discard() -> Self {
        Self(None)
    }

    /// A sink, and the other end of it. The receiver ends when the last clone of the sink is gone.
    pub fn channel() -> (Self, Receiver<Stamped>) {
        let (sender, receiver) = channel();
        (
            Self(Some(Arc::new(Mutex::new(Queue {
                sender,
                last: i64::MIN,
            })))),
            receiver,
        )
    }

    /// Tells that something happened just now.
    pub fn emit(&self, event: Event) {
        let Some(queue) = &self.0 else { return };
        // The time is taken under the lock, so that a stream's times never go back, whatever the
        // clock does.
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let ts = now_ns().max(queue.last);
        queue.last = ts;
        // Nobody listens any more: a run goes on without its listener.
        let _ = queue.sender.send(Stamped { ts, event });
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
