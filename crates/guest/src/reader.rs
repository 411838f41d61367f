//! Reads what the agent sends, checks it, and hands it to the call it belongs to.
//!
//! Nothing here waits for a consumer: data beyond the granted credit is a violation, so there is room for
//! everything else. A violation ends the session. The reader then stops reading (the guest is held
//! back by its own port) until a new session is requested.

use crate::call_state::CallState;
use crate::error::{ChannelError, Violation};
use crate::module_provider::PendingRequest;
use crate::shared::Shared;
use provium_protocol::frame::{Assembler, Item, MAX_MESSAGE};
use provium_protocol::{
    CallId, Event, Frame, FrameDecoder, FrameKind, GuestRequest, Hello, Reply, WireError, codec,
};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

/// Bytes read at once.
const READ: usize = 64 * 1024;
/// Bytes that all unfinished replies may hold together. Sixteen memory reads of full size fit.
const ASSEMBLING_LIMIT: usize = 8 * MAX_MESSAGE;
/// Greetings that cannot be read before the agent is taken for another's.
const BAD_GREETINGS: u32 = 3;
/// Values in a hello, an event or a guest request.
const SMALL: usize = 4096;

/// The reading half of a channel.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    decoder: FrameDecoder,
    after_sync: bool,
    bad_greetings: u32,
    replies: HashMap<CallId, PartialReply>,
    assembling: usize,
    assembling_limit: usize,
    requests: mpsc::Sender<PendingRequest>,
}

#[derive(Default)]
struct PartialReply {
    assembler: Assembler,
    len: usize,
}

impl Reader {
    /// A reader that continues with the bytes in `decoder`.
    pub(crate) fn new(
        shared: Arc<Shared>,
        decoder: FrameDecoder,
        requests: mpsc::Sender<PendingRequest>,
    ) -> Self {
        Self {
            shared,
            decoder,
            after_sync: false,
            bad_greetings: 0,
            replies: HashMap::new(),
            assembling: 0,
            assembling_limit: ASSEMBLING_LIMIT,
            requests,
        }
    }

    /// Reads until the channel ends.
    pub(crate) async fn run<R: AsyncRead + Unpin>(mut self, mut stream: R) {
        let mut buffer = vec![0; READ];
        loop {
            if let Err(violation) = self.drain() {
                tracing::debug!(%violation, "the agent broke the protocol");
                self.shared.on_violation(violation);
                self.forget_replies();
                self.shared.until_resumed().await;
                if self.shared.is_dead() {
                    return;
                }
                // What is left of that read may hold the next greeting.
                continue;
            }
            let read = match stream.read(&mut buffer).await {
                Ok(0) => return self.shared.die(ChannelError::HungUp),
                Ok(read) => read,
                Err(error) => return self.shared.die(ChannelError::Io(Arc::new(error))),
            };
            if self
                .shared
                .with(|channel| channel.session.take_stale_bytes())
            {
                self.decoder = FrameDecoder::new();
                self.after_sync = false;
            }
            self.decoder.push(&buffer[..read]);
        }
    }

    /// Handles all frames that are complete.
    fn drain(&mut self) -> Result<(), Violation> {
        loop {
            match self.decoder.next_item() {
                Ok(None) => return Ok(()),
                Ok(Some(Item::Sync)) => self.after_sync = true,
                Ok(Some(Item::Frame(frame))) => self.frame(frame)?,
                Err(error) if self.shared.is_open() => return Err(error.into()),
                // Between sessions noise is passed over; the decoder hunts for the next SYNC.
                Err(_) => {}
            }
        }
    }

    fn frame(&mut self, frame: Frame) -> Result<(), Violation> {
        let after_sync = std::mem::take(&mut self.after_sync);
        if frame.kind == FrameKind::Hello && after_sync {
            return self.hello(&frame);
        }
        if !self.shared.is_open() {
            return Ok(());
        }
        if after_sync {
            return Err(Violation::WrongKind(frame.kind));
        }
        match frame.kind {
            FrameKind::Reply => {
                let Some(call) = self.call(&frame)? else {
                    return Ok(());
                };
                self.reply(&call, &frame)
            }
            FrameKind::Event => {
                let Some(call) = self.call(&frame)? else {
                    return Ok(());
                };
                call.event(small::<Event>(&frame)?)
            }
            FrameKind::Data => {
                let Some(call) = self.call(&frame)? else {
                    return Ok(());
                };
                let stream = frame.stream;
                let grant = call.accept(stream, frame.payload)?;
                self.shared.grant(&call, stream, grant);
                Ok(())
            }
            FrameKind::End => {
                let Some(call) = self.call(&frame)? else {
                    return Ok(());
                };
                call.end(frame.stream)
            }
            FrameKind::Credit => {
                let Some(call) = self.call(&frame)? else {
                    return Ok(());
                };
                call.credit(
                    frame
                        .granted()
                        .ok_or(Violation::Unreadable(FrameKind::Credit))?,
                );
                Ok(())
            }
            FrameKind::Pong => {
                if self.shared.with(|channel| channel.calls.pong(frame.call))
                    || !self.shared.is_open()
                {
                    Ok(())
                } else {
                    Err(Violation::UnknownCall(frame.kind, frame.call))
                }
            }
            FrameKind::GuestRequest => self.guest_request(&frame),
            FrameKind::Hello
            | FrameKind::Request
            | FrameKind::Cancel
            | FrameKind::Ping
            | FrameKind::HostReply
            | FrameKind::Goodbye => Err(Violation::WrongKind(frame.kind)),
        }
    }

    /// The call that a frame is about; `None` when the session has ended meanwhile, or the frame
    /// crossed with the reply to an abandoned call.
    fn call(&self, frame: &Frame) -> Result<Option<Arc<CallState>>, Violation> {
        let (kind, id) = (frame.kind, frame.call);
        self.shared.with(|channel| match channel.calls.get(id) {
            Some(call) if call.lane == frame.lane => Ok(Some(Arc::clone(call))),
            Some(_) => Err(Violation::WrongLane(id)),
            None if kind != FrameKind::Reply && channel.calls.was_abandoned(id) => Ok(None),
            None if channel.session.is_open() => Err(Violation::UnknownCall(kind, id)),
            None => Ok(None),
        })
    }

    fn hello(&mut self, frame: &Frame) -> Result<(), Violation> {
        match small::<Hello>(frame) {
            Ok(hello) => {
                if self.shared.on_hello(hello) {
                    self.bad_greetings = 0;
                    self.forget_replies();
                }
                Ok(())
            }
            Err(violation) if self.shared.is_open() => Err(violation),
            Err(_) => {
                self.bad_greetings += 1;
                if self.bad_greetings >= BAD_GREETINGS {
                    self.bad_greetings = 0;
                    let unreadable = Err(ChannelError::Greeting);
                    self.shared
                        .with(|channel| channel.session.answer(unreadable));
                }
                Ok(())
            }
        }
    }

    fn reply(&mut self, call: &CallState, frame: &Frame) -> Result<(), Violation> {
        let limits = call.limits;
        let partial = self.replies.entry(call.id).or_default();
        partial.len += frame.payload.len();
        self.assembling += frame.payload.len();
        if partial.len > limits.bytes || self.assembling > self.assembling_limit {
            return Err(Violation::TooLong(FrameKind::Reply));
        }
        let Some(message) = partial.assembler.push(frame)? else {
            return Ok(());
        };
        self.assembling -= partial.len;
        self.replies.remove(&call.id);
        let reply: Result<Reply, WireError> = codec::decode_bounded(&message, limits.values)
            .map_err(|error| {
                if error.is_too_large() {
                    Violation::TooLong(FrameKind::Reply)
                } else {
                    Violation::Unreadable(FrameKind::Reply)
                }
            })?;
        self.shared.with(|channel| channel.reply(call, reply));
        Ok(())
    }

    fn guest_request(&self, frame: &Frame) -> Result<(), Violation> {
        let pending = PendingRequest {
            session: self.shared.with(|channel| channel.session.number()),
            lane: frame.lane,
            id: frame.call,
            request: small::<GuestRequest>(frame)?,
        };
        self.requests
            .try_send(pending)
            .map_err(|_| Violation::Flood(FrameKind::GuestRequest))
    }

    fn forget_replies(&mut self) {
        self.replies.clear();
        self.assembling = 0;
    }
}

/// A message that always fits one frame.
pub(crate) fn small<T: serde::de::DeserializeOwned>(frame: &Frame) -> Result<T, Violation> {
    if frame.more {
        return Err(Violation::TooLong(frame.kind));
    }
    codec::decode_bounded(&frame.payload, SMALL).map_err(|_| Violation::Unreadable(frame.kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel_state::ChannelState;
    use crate::incoming::Sink;
    use crate::outgoing::OutgoingRequest;
    use crate::session::Identity;
    use provium_protocol::{Lane, Op};
    use provium_testkit::{BUILD, agent_hello};

    #[tokio::test]
    async fn unfinished_replies_are_bounded_together() {
        let identity = Identity {
            protocol: provium_protocol::PROTOCOL_VERSION,
            host_build: BUILD.to_owned(),
            expected_build: BUILD.to_owned(),
        };
        let shared = Arc::new(Shared::new(ChannelState::new(false), identity, None));
        let (answer, _answered) = tokio::sync::oneshot::channel();
        let awaiting = crate::session::PendingHandshake {
            session: 5,
            first: None,
            answer,
        };
        shared.with(|channel| channel.session.await_hello(awaiting));
        assert!(shared.on_hello(agent_hello(5)));
        let (requests, _) = mpsc::channel(1);
        let mut reader = Reader::new(Arc::clone(&shared), FrameDecoder::in_step(), requests);
        reader.assembling_limit = 2500;
        let calls = [(); 3].map(|()| {
            let request = OutgoingRequest::to_lane(Lane::VM, &Op::ClockGet);
            shared.with(|channel| channel.open(request, [Sink::Discard, Sink::Discard]))
        });
        let mut send = |call: &CallState, more: bool, bytes: Vec<u8>| {
            let mut frame = Frame::new(FrameKind::Reply, call.lane, call.id, bytes);
            frame.more = more;
            reader.decoder.push(&frame.to_bytes());
            reader.drain()
        };
        assert_eq!(send(&calls[0], true, vec![0; 1000]), Ok(()));
        assert_eq!(send(&calls[1], true, vec![0; 1000]), Ok(()));
        let done: Result<Reply, WireError> = Ok(Reply::Done);
        assert_eq!(
            send(&calls[2], false, codec::encode(&done)),
            Ok(()),
            "what is done counts no more"
        );
        let over = send(&calls[1], true, vec![0; 600]);
        assert_eq!(over, Err(Violation::TooLong(FrameKind::Reply)));
    }
}
