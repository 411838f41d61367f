//! Where events go: from any thread, in one order, without waiting for the reader.

use crate::event::Event;
use crate::frame::TimedEvent;
use crate::notice::Notice;
use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Takes events. Clones lead to the same place.
///
/// Once the receiver is gone, events are dropped.
#[derive(Clone, Default)]
pub struct Sink {
    queue: Option<Arc<Mutex<Queue>>>,
    filter: Option<Arc<EventFilter>>,
}

/// Decides whether an event may pass.
type EventFilter = dyn Fn(&Event) -> bool + Send + Sync;

struct Queue {
    sender: Sender<TimedEvent>,
    last: i64,
}

impl Sink {
    /// A sink that drops all events.
    pub fn discard() -> Self {
        Self::default()
    }

    /// A sink, and the other end of it. The receiver ends when the last clone of the sink is gone.
    pub fn channel() -> (Self, Receiver<TimedEvent>) {
        let (sender, receiver) = channel();
        let queue = Queue {
            sender,
            last: i64::MIN,
        };
        (
            Self {
                queue: Some(Arc::new(Mutex::new(queue))),
                filter: None,
            },
            receiver,
        )
    }

    /// A sink to the same place that shows each event to `filter` first and drops those it refuses.
    pub fn filtered(&self, filter: impl Fn(&Event) -> bool + Send + Sync + 'static) -> Self {
        let outer = self.filter.clone();
        let both = move |event: &Event| filter(event) && outer.as_ref().is_none_or(|o| o(event));
        Self {
            queue: self.queue.clone(),
            filter: Some(Arc::new(both)),
        }
    }

    /// Emits an event that happens now.
    pub fn emit(&self, event: Event) {
        if self.filter.as_ref().is_some_and(|filter| !filter(&event)) {
            return;
        }
        let Some(queue) = &self.queue else { return };
        // The time is taken under the lock, so that a stream's times never go back, whatever the
        // clock does.
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let ts = now_ns().max(queue.last);
        queue.last = ts;
        // Without a listener, a run continues.
        let _ = queue.sender.send(TimedEvent { ts, event });
    }

    /// Emits a notice.
    pub fn notify(&self, notice: Notice) {
        self.emit(Event::Notice(notice));
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink")
            .field("listening", &self.queue.is_some())
            .finish_non_exhaustive()
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
