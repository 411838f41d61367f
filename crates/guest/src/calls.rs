//! The calls and pings of a session, by their ids.
//!
//! Pure. An id is used again only when nothing can come for it any more: after the reply to a call, also of an
//! abandoned one, and after the answer to a ping.

use crate::call_state::CallState;
use crate::error::{CallError, ChannelError};
use provium_protocol::{CallId, Lane};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Abandoned calls that are remembered past their reply. Frames about one may cross with it, when the
/// guest gave up waiting for its own thread.
const LATE_LIMIT: usize = 256;

/// The open calls, and the pings without an answer.
#[derive(Debug, Default)]
pub(crate) struct CallTable {
    calls: HashMap<CallId, Arc<CallState>>,
    pings: HashMap<CallId, oneshot::Sender<()>>,
    /// Abandoned calls that were answered not long ago, the latest first.
    late: VecDeque<CallId>,
    last_id: u32,
}

impl CallTable {
    /// An empty table of a session in which ids up to `last_id` were used.
    pub(crate) fn after(last_id: u32) -> Self {
        Self {
            last_id,
            ..Self::default()
        }
    }

    /// The last id that was used.
    pub(crate) fn last_id(&self) -> u32 {
        self.last_id
    }

    /// An id that no open call has. Ids are reused as late as possible.
    pub(crate) fn free_id(&mut self) -> CallId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let id = CallId(self.last_id);
            if id.0 != 0 && !self.calls.contains_key(&id) && !self.pings.contains_key(&id) {
                return id;
            }
        }
    }

    pub(crate) fn insert(&mut self, call: &Arc<CallState>) {
        self.calls.insert(call.id, Arc::clone(call));
    }

    pub(crate) fn get(&self, id: CallId) -> Option<&Arc<CallState>> {
        self.calls.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<CallState>> {
        self.calls.values()
    }

    /// The calls of a lane that are open, oldest first.
    pub(crate) fn of_lane(&self, lane: Lane) -> Vec<Arc<CallState>> {
        let of_lane = |call: &&Arc<CallState>| call.lane == lane && !call.is_over();
        let mut calls: Vec<_> = self.calls.values().filter(of_lane).cloned().collect();
        calls.sort_by_key(|call| (call.opened, call.id));
        calls
    }

    /// The lanes that have open calls, in order.
    pub(crate) fn lanes(&self) -> BTreeSet<Lane> {
        self.calls.values().map(|call| call.lane).collect()
    }

    /// Removes a call that the guest has never heard of.
    pub(crate) fn remove(&mut self, id: CallId) {
        self.calls.remove(&id);
    }

    /// Removes a call whose reply has come.
    pub(crate) fn answered(&mut self, call: &CallState) {
        self.calls.remove(&call.id);
        if call.is_abandoned() {
            self.late.truncate(LATE_LIMIT - 1);
            self.late.push_front(call.id);
        }
    }

    /// Whether the call was abandoned and answered not long ago.
    pub(crate) fn was_abandoned(&self, id: CallId) -> bool {
        self.late.contains(&id)
    }

    /// Adds a ping; the receiver is notified when it is answered, and closed when it will not be.
    pub(crate) fn add_ping(&mut self) -> (CallId, oneshot::Receiver<()>) {
        let id = self.free_id();
        let (answered, answer) = oneshot::channel();
        self.pings.insert(id, answered);
        (id, answer)
    }

    /// A ping was answered; false when there was none of that id.
    pub(crate) fn pong(&mut self, id: CallId) -> bool {
        let waiter = self.pings.remove(&id);
        // The receiver may have been dropped.
        waiter.map(|waiter| waiter.send(())).is_some()
    }

    /// Ends all calls and pings: their session is over.
    pub(crate) fn fail_all(&mut self, reason: &Arc<ChannelError>) {
        for (_, call) in self.calls.drain() {
            call.finish(Err(CallError::Channel(Arc::clone(reason))));
        }
        self.pings.clear();
        self.late.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incoming::Sink;
    use crate::outgoing::OutgoingRequest;
    use proptest::prelude::*;
    use provium_protocol::{Op, Reply};

    fn call(table: &mut CallTable) -> Arc<CallState> {
        let request = OutgoingRequest::to_lane(Lane::VM, &Op::ClockGet);
        let id = table.free_id();
        let sinks = [Sink::Discard, Sink::Discard];
        let call = Arc::new(CallState::new(id, &request, sinks));
        table.insert(&call);
        call
    }

    proptest! {
        /// Ids are drawn from a range so small that it wraps and collides.
        #[test]
        fn no_two_open_calls_or_pings_have_one_id(
            start in (u32::MAX - 8)..=u32::MAX,
            steps in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..80),
        ) {
            let mut table = CallTable::after(start);
            let mut calls: Vec<Arc<CallState>> = Vec::new();
            let mut pings: Vec<CallId> = Vec::new();
            for (step, index) in steps {
                // Ids from a small range again and again.
                table.last_id = table.last_id.wrapping_sub(4);
                match step {
                    0 => {
                        let new = call(&mut table);
                        prop_assert!(new.id.0 != 0);
                        prop_assert!(calls.iter().all(|call| call.id != new.id));
                        prop_assert!(!pings.contains(&new.id));
                        calls.push(new);
                    }
                    1 => {
                        let (id, _) = table.add_ping();
                        prop_assert!(id.0 != 0);
                        prop_assert!(calls.iter().all(|call| call.id != id));
                        prop_assert!(!pings.contains(&id));
                        pings.push(id);
                    }
                    2 if !calls.is_empty() => {
                        let call = calls.swap_remove(index.index(calls.len()));
                        call.abandon();
                        prop_assert!(table.get(call.id).is_some(), "until its reply has come");
                        table.answered(&call);
                        prop_assert!(table.get(call.id).is_none());
                        prop_assert!(table.was_abandoned(call.id));
                    }
                    3 if !pings.is_empty() => {
                        let id = pings.swap_remove(index.index(pings.len()));
                        prop_assert!(table.pong(id));
                        prop_assert!(!table.pong(id), "answered once");
                    }
                    _ => {}
                }
            }
            table.fail_all(&Arc::new(ChannelError::SessionOver));
            for call in calls {
                prop_assert!(call.is_over());
                prop_assert!(table.get(call.id).is_none());
            }
        }
    }

    #[test]
    fn the_late_are_forgotten_in_their_order() {
        let mut table = CallTable::default();
        let ids: Vec<CallId> = (0..=LATE_LIMIT)
            .map(|_| {
                let call = call(&mut table);
                call.abandon();
                call.finish(Ok(Reply::Done));
                table.answered(&call);
                call.id
            })
            .collect();
        assert!(!table.was_abandoned(ids[0]));
        assert!(ids[1..].iter().all(|id| table.was_abandoned(*id)));
    }
}
