//! The queues of what is written to the guest, and the order in which they take turns.
//!
//! Order: the session's preamble, then pings and credit (small, and always waited for), then
//! one frame of each call in turn. A call that uploads a gigabyte thus delays a small request by one
//! frame of [`CHUNK`] bytes. Within a call the order is kept.
//!
//! Pure: the [writer](crate::writer) asks for bytes and does the I/O.

use provium_protocol::{CallId, Frame, FrameKind, Lane, StreamId};
use std::collections::{BTreeMap, HashMap, VecDeque};
use tokio::sync::oneshot;

/// Longest payload that this side puts in a frame, bytes.
pub(crate) const CHUNK: usize = 32 * 1024;
/// Data bytes a call may have waiting here, however much the agent granted it.
pub(crate) const QUEUE_LIMIT: usize = 256 * 1024;

/// What the frames of a queue belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sender {
    /// A call of the host's.
    Call(CallId),
    /// The reply to a guest request.
    Reply(CallId),
}

impl Sender {
    fn id(self) -> CallId {
        match self {
            Self::Call(id) | Self::Reply(id) => id,
        }
    }
}

#[derive(Debug)]
enum Entry {
    /// `sent` bytes of it are out; `done` is notified when all are.
    Message {
        kind: FrameKind,
        bytes: Vec<u8>,
        sent: usize,
        done: Option<oneshot::Sender<()>>,
    },
    Data(StreamId, Vec<u8>),
    End(StreamId),
    Cancel,
}

#[derive(Debug)]
struct Queue {
    lane: Lane,
    entries: VecDeque<Entry>,
    data: usize,
}

/// Frames that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    preamble: Vec<u8>,
    pings: VecDeque<CallId>,
    /// Credit not yet sent, merged, so that an agent that does not read cannot make it pile up.
    credits: BTreeMap<(CallId, StreamId), (Lane, u32)>,
    queues: HashMap<Sender, Queue>,
    turn: VecDeque<Sender>,
    hold: HoldState,
    /// There may be more to write than at the last [`Outbox::take_changed`].
    changed: bool,
}

/// Whether frames are held back for a checkpoint.
#[derive(Debug, Default)]
enum HoldState {
    #[default]
    No,
    /// Only what has begun goes out, answers, and then these bytes.
    Until(CallId, Vec<u8>),
    /// The bytes are out.
    Closed,
}

impl Outbox {
    /// Whether there may be more to write than when this was last called.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Holds back what has not begun to go out; after what has, these bytes go out, and no others.
    /// False if frames are held back already.
    pub(crate) fn hold(&mut self, id: CallId, last: Vec<u8>) -> bool {
        let free = matches!(self.hold, HoldState::No);
        if free {
            self.hold = HoldState::Until(id, last);
            self.changed = true;
        }
        free
    }

    /// Ends the hold: everything is sent again.
    pub(crate) fn release(&mut self) {
        self.hold = HoldState::No;
        self.changed = true;
    }

    /// Credit of a call's two outputs that has not gone out.
    pub(crate) fn unsent_credit(&self, id: CallId) -> [u32; 2] {
        [StreamId::Output, StreamId::Error].map(|stream| {
            self.credits
                .get(&(id, stream))
                .map_or(0, |(_, bytes)| *bytes)
        })
    }

    /// What of a call has not gone out: `None` if that is all of it, else the bytes of its input.
    pub(crate) fn unsent_input(&self, id: CallId) -> Option<usize> {
        let Some(queue) = self.queues.get(&Sender::Call(id)) else {
            return Some(0);
        };
        let is_unsent = matches!(queue.entries.front(), Some(Entry::Message { sent: 0, .. }));
        (!is_unsent).then_some(queue.data)
    }

    /// Writes what is not held back.
    fn fill_held(&mut self, out: &mut Vec<u8>) {
        let may = |sender: &Sender, queue: &Queue| match sender {
            Sender::Reply(_) => true,
            Sender::Call(_) => queue.is_half_out(),
        };
        // What has begun is little: it may all go at once.
        let queues = &mut self.queues;
        self.turn.retain(|sender| {
            let Some(queue) = queues.get_mut(sender) else {
                return false;
            };
            while may(sender, queue) && !queue.entries.is_empty() {
                queue.emit(*sender, out);
            }
            let is_done = queue.entries.is_empty();
            if is_done {
                queues.remove(sender);
            }
            !is_done
        });
        if let HoldState::Until(_, last) = &mut self.hold {
            out.append(last);
            self.hold = HoldState::Closed;
        }
    }

    /// Puts bytes before everything else, in place of such bytes that have not gone out yet.
    pub(crate) fn set_preamble(&mut self, bytes: Vec<u8>) {
        self.preamble = bytes;
        self.changed = true;
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn ping(&mut self, id: CallId) {
        self.changed = true;
        self.pings.push_back(id);
    }

    pub(crate) fn credit(&mut self, lane: Lane, id: CallId, stream: StreamId, bytes: u32) {
        let (_, sum) = self.credits.entry((id, stream)).or_insert((lane, 0));
        *sum = sum.saturating_add(bytes);
        self.changed = true;
    }

    /// A whole message; `done` is notified when its last byte is handed to the writer.
    pub(crate) fn message(
        &mut self,
        sender: Sender,
        lane: Lane,
        kind: FrameKind,
        bytes: Vec<u8>,
        done: Option<oneshot::Sender<()>>,
    ) {
        self.push(
            sender,
            lane,
            Entry::Message {
                kind,
                bytes,
                sent: 0,
                done,
            },
        );
    }

    /// How many more bytes of data the call may put here.
    pub(crate) fn room(&self, id: CallId) -> usize {
        let waiting = self
            .queues
            .get(&Sender::Call(id))
            .map_or(0, |queue| queue.data);
        QUEUE_LIMIT.saturating_sub(waiting)
    }

    /// At most [`CHUNK`] bytes of a stream.
    pub(crate) fn data(&mut self, lane: Lane, id: CallId, stream: StreamId, bytes: Vec<u8>) {
        let len = bytes.len();
        self.push(Sender::Call(id), lane, Entry::Data(stream, bytes))
            .data += len;
    }

    pub(crate) fn end(&mut self, lane: Lane, id: CallId, stream: StreamId) {
        self.push(Sender::Call(id), lane, Entry::End(stream));
    }

    /// Cancels a call. True when nothing of it has gone out: it was never made, then.
    pub(crate) fn cancel(&mut self, lane: Lane, id: CallId) -> bool {
        let sender = Sender::Call(id);
        if matches!(self.hold, HoldState::Until(last, _) if last == id) {
            self.hold = HoldState::Closed;
            return true;
        }
        if let Some(queue) = self.queues.get_mut(&sender) {
            if matches!(queue.entries.front(), Some(Entry::Message { sent: 0, .. })) {
                self.forget(id);
                return true;
            }
            // A request that is half out must go out whole, or the agent could not tell where the
            // next message begins.
            queue
                .entries
                .retain(|entry| matches!(entry, Entry::Message { .. }));
            queue.data = 0;
        }
        self.push(sender, lane, Entry::Cancel);
        false
    }

    /// Drops what a call that has ended would still have sent.
    pub(crate) fn forget(&mut self, id: CallId) {
        if self.queues.remove(&Sender::Call(id)).is_some() {
            self.turn.retain(|sender| *sender != Sender::Call(id));
        }
        for stream in StreamId::ALL {
            self.credits.remove(&(id, stream));
        }
    }

    /// Appends frames to `out` until it holds `limit` bytes or nothing waits. The calls returned
    /// have got room for data.
    pub(crate) fn fill(&mut self, out: &mut Vec<u8>, limit: usize) -> Vec<CallId> {
        out.append(&mut self.preamble);
        if !matches!(self.hold, HoldState::No) {
            self.fill_held(out);
            return Vec::new();
        }
        for id in self.pings.drain(..) {
            Frame::new(FrameKind::Ping, Lane::AGENT, id, Vec::new()).encode(out);
        }
        for ((id, stream), (lane, bytes)) in std::mem::take(&mut self.credits) {
            Frame::credit(lane, id, stream, bytes).encode(out);
        }
        let mut freed = Vec::new();
        while out.len() < limit {
            let Some(sender) = self.turn.pop_front() else {
                break;
            };
            let Some(queue) = self.queues.get_mut(&sender) else {
                continue;
            };
            let before = queue.data;
            queue.emit(sender, out);
            if queue.data < before {
                freed.push(sender.id());
            }
            if queue.entries.is_empty() {
                self.queues.remove(&sender);
            } else {
                self.turn.push_back(sender);
            }
        }
        freed
    }

    fn push(&mut self, sender: Sender, lane: Lane, entry: Entry) -> &mut Queue {
        self.changed = true;
        let turn = &mut self.turn;
        let queue = self.queues.entry(sender).or_insert_with(|| {
            turn.push_back(sender);
            Queue {
                lane,
                entries: VecDeque::new(),
                data: 0,
            }
        });
        queue.entries.push_back(entry);
        queue
    }
}

impl Queue {
    /// Whether a part of a message is out, and the rest is not.
    fn is_half_out(&self) -> bool {
        matches!(self.entries.front(), Some(Entry::Message { sent: 1.., .. }))
    }

    /// Writes one frame.
    fn emit(&mut self, sender: Sender, out: &mut Vec<u8>) {
        let (lane, id) = (self.lane, sender.id());
        let Some(entry) = self.entries.front_mut() else {
            return;
        };
        let frame = match entry {
            Entry::Message {
                kind,
                bytes,
                sent,
                done,
            } => {
                let end = bytes.len().min(*sent + CHUNK);
                let mut frame = Frame::new(*kind, lane, id, bytes[*sent..end].to_vec());
                *sent = end;
                frame.more = end < bytes.len();
                if frame.more {
                    frame.encode(out);
                    return;
                }
                if let Some(done) = done.take() {
                    // The receiver may have been dropped.
                    let _ = done.send(());
                }
                frame
            }
            Entry::Data(stream, bytes) => {
                self.data -= bytes.len();
                Frame::data(lane, id, *stream, std::mem::take(bytes))
            }
            Entry::End(stream) => Frame::end(lane, id, *stream),
            Entry::Cancel => Frame::new(FrameKind::Cancel, lane, id, Vec::new()),
        };
        self.entries.pop_front();
        frame.encode(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_protocol::FrameDecoder;
    use provium_protocol::frame::Item;

    fn request(outbox: &mut Outbox, id: u32, len: usize) {
        let sender = Sender::Call(CallId(id));
        outbox.message(sender, Lane::VM, FrameKind::Request, vec![7; len], None);
    }

    fn drain(outbox: &mut Outbox, limit: usize) -> Vec<(FrameKind, u32, bool)> {
        let mut bytes = Vec::new();
        outbox.fill(&mut bytes, limit);
        let mut decoder = FrameDecoder::in_step();
        decoder.push(&bytes);
        std::iter::from_fn(|| match decoder.next_item().unwrap()? {
            Item::Frame(frame) => Some((frame.kind, frame.call.0, frame.more)),
            Item::Sync => panic!("no SYNC was put in"),
        })
        .collect()
    }

    #[test]
    fn calls_take_turns() {
        let mut outbox = Outbox::default();
        request(&mut outbox, 1, 3 * CHUNK);
        request(&mut outbox, 2, 10);
        outbox.data(Lane::VM, CallId(2), StreamId::Input, vec![1]);
        use FrameKind::{Data, Request};
        let frames = drain(&mut outbox, usize::MAX);
        let expected = [
            (Request, 1, true),
            (Request, 2, false),
            (Request, 1, true),
            (Data, 2, false),
            (Request, 1, false),
        ];
        assert_eq!(frames, expected);
        assert_eq!(drain(&mut outbox, usize::MAX), []);
    }

    #[test]
    fn pings_and_credit_go_first() {
        let mut outbox = Outbox::default();
        request(&mut outbox, 1, 3 * CHUNK);
        drain(&mut outbox, 1);
        outbox.credit(Lane::VM, CallId(1), StreamId::Output, 5);
        outbox.credit(Lane::VM, CallId(1), StreamId::Output, 6);
        outbox.ping(CallId(9));
        let kinds: Vec<_> = drain(&mut outbox, usize::MAX)
            .iter()
            .map(|frame| frame.0)
            .collect();
        use FrameKind::{Credit, Ping, Request};
        assert_eq!(kinds, [Ping, Credit, Request, Request], "credit is merged");
    }

    #[test]
    fn a_request_that_never_went_out_needs_no_cancel() {
        let mut outbox = Outbox::default();
        request(&mut outbox, 1, 10);
        assert!(outbox.cancel(Lane::VM, CallId(1)));
        assert_eq!(drain(&mut outbox, usize::MAX), []);
    }

    #[test]
    fn a_request_half_out_goes_out_whole_before_its_cancel() {
        let mut outbox = Outbox::default();
        request(&mut outbox, 1, 2 * CHUNK);
        outbox.data(Lane::VM, CallId(1), StreamId::Input, vec![0; 9]);
        assert_eq!(drain(&mut outbox, 1).len(), 1);
        assert!(!outbox.cancel(Lane::VM, CallId(1)));
        assert_eq!(outbox.room(CallId(1)), QUEUE_LIMIT, "data is dropped");
        use FrameKind::{Cancel, Request};
        assert_eq!(
            drain(&mut outbox, usize::MAX),
            [(Request, 1, false), (Cancel, 1, false)]
        );
    }
}
