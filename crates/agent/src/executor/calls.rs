//! The open calls of all lanes: what they send to the host, how they are answered, and the joins that wait
//! for them.

use super::call::{Call, Recipient, lock};
use super::joins::{Answers, LaneJoins};
use super::router_link::{self, Packet};
use super::table::Table;
use crate::failure::{self, OpResult};
use provium_protocol::{CallId, Event, Frame, FrameKind, Lane, StreamId, codec};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex};

/// The first bytes of an encoded error.
const ERROR: &[u8] = b"\x81\xa3Err";

#[derive(Debug, Default)]
pub(super) struct Calls {
    /// The host's own; entries of batches are with their batch.
    open: Mutex<BTreeMap<(Lane, CallId), Arc<Call>>>,
    joins: Mutex<Table<Lane, LaneJoins>>,
}

impl Calls {
    /// Takes a call of the host in; returns false if its id is in use.
    pub(super) fn open(&self, call: &Arc<Call>) -> bool {
        match lock(&self.open).entry((call.lane, call.id)) {
            Entry::Vacant(vacant) => vacant.insert(Arc::clone(call)),
            Entry::Occupied(_) => return false,
        };
        self.begun(call);
        true
    }

    /// Counts a call that a join waits for.
    pub(super) fn begun(&self, call: &Call) {
        if let Some(mode) = call.delays_join() {
            lock(&self.joins).get_or_default(call.lane).begun(mode);
        }
    }

    pub(super) fn get(&self, lane: Lane, id: CallId) -> Option<Arc<Call>> {
        lock(&self.open).get(&(lane, id)).cloned()
    }

    pub(super) fn of_lane(&self, lane: Lane) -> Vec<Arc<Call>> {
        let open = lock(&self.open);
        let of_lane = open.range((lane, CallId(0))..=(lane, CallId(u32::MAX)));
        of_lane.map(|(_, call)| Arc::clone(call)).collect()
    }

    /// Forgets a lane that will have no further calls.
    pub(super) fn forget_lane(&self, lane: Lane) {
        lock(&self.joins).remove(&lane);
    }

    // Results.

    /// Answers a call, unless it was answered already.
    pub(super) fn finish(&self, call: &Arc<Call>, result: OpResult) {
        self.finish_with(call, Packet::default(), result);
    }

    /// Ends these streams of a call, and answers it.
    pub(super) fn finish_streams(&self, call: &Arc<Call>, ends: &[StreamId], result: OpResult) {
        let mut packet = Packet::default();
        if is_heard(call) {
            for channel in ends {
                packet.add(&Frame::end(call.lane, call.id, *channel), &[]);
            }
        }
        self.finish_with(call, packet, result);
    }

    /// Answers a call with a result that is encoded already, after `data` on its output channel.
    pub(super) fn finish_encoded(&self, call: &Arc<Call>, data: &[u8], message: &[u8]) {
        let mut packet = Packet::default();
        if is_heard(call) {
            if !data.is_empty() {
                let frame = Frame::data(call.lane, call.id, StreamId::Output, Vec::new());
                packet.add(&frame, data);
            }
            if call.sends_output && !message.starts_with(ERROR) {
                packet.add(&Frame::end(call.lane, call.id, StreamId::Output), &[]);
            }
        }
        if call.delays_join().is_none() && call.is_of_host() {
            if call.set_answered() {
                self.reply(call, packet, message);
            }
            return;
        }
        let result = codec::decode(message)
            .unwrap_or_else(|_| Err(failure::invalid("the result cannot be read")));
        self.finish_with(call, packet, result);
    }

    /// `packet`: what is sent to the host before the reply.
    fn finish_with(&self, call: &Arc<Call>, packet: Packet, result: OpResult) {
        if !call.set_answered() {
            return;
        }
        let joins = match call.delays_join() {
            Some(mode) => lock(&self.joins)
                .get_or_default(call.lane)
                .ended(mode, &result),
            None => Vec::new(),
        };
        match &call.recipient {
            Recipient::Host => self.reply(call, packet, &codec::encode(&result)),
            Recipient::Batch(batch) => Arc::clone(batch).entry_finished(call.id, result),
        }
        self.answer(joins);
    }

    fn reply(&self, call: &Call, mut packet: Packet, message: &[u8]) {
        lock(&self.open).remove(&(call.lane, call.id));
        packet.add_message(FrameKind::Reply, call.lane, call.id, message);
        packet.send();
    }

    // Joins.

    /// Answers `call` as soon as no command of its lane runs.
    pub(super) fn join(&self, call: Arc<Call>) {
        let answers = lock(&self.joins).get_or_default(call.lane).join(call);
        self.answer(answers);
    }

    /// Withdraws a join that is not answered yet.
    pub(super) fn withdraw_join(&self, call: &Call) -> bool {
        lock(&self.joins)
            .get_mut(&call.lane)
            .is_some_and(|joins| joins.withdraw(call))
    }

    /// Raises the exit code that the next join of a lane reports to at least this one.
    pub(super) fn worsen(&self, lane: Lane, code: i32) {
        lock(&self.joins).get_or_default(lane).worsen(code);
    }

    fn answer(&self, answers: Answers) {
        for (call, result) in answers {
            self.finish(&call, result);
        }
    }

    // What an open call sends to the host.

    pub(super) fn event(&self, call: &Call, event: &Event) {
        if is_heard(call) {
            let event = codec::encode(event);
            router_link::send_message(FrameKind::Event, call.lane, call.id, &event);
        }
    }

    /// Sends bytes, at most a frame's worth, and takes them off the credit.
    pub(super) fn data(&self, call: &Call, channel: StreamId, bytes: &[u8]) {
        call.spend(channel, bytes.len());
        if is_heard(call) {
            let frame = Frame::data(call.lane, call.id, channel, Vec::new());
            router_link::send(&frame, bytes);
        }
    }

    pub(super) fn end(&self, call: &Call, channel: StreamId) {
        if is_heard(call) {
            router_link::send(&Frame::end(call.lane, call.id, channel), &[]);
        }
    }

    /// Lets the host send as much more input as was used up.
    pub(super) fn grant_input(&self, call: &Call, bytes: usize) {
        if bytes > 0 && !call.input_ended() && is_heard(call) {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let frame = Frame::credit(call.lane, call.id, StreamId::Input, bytes);
            router_link::send(&frame, &frame.payload);
        }
    }
}

/// Whether the host reads what the call sends.
fn is_heard(call: &Call) -> bool {
    call.is_of_host() && !call.is_answered()
}
