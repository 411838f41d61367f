//! Frames: the unit of the byte stream.
//!
//! ```text
//!  0       4      5       6         7      8        12       16
//!  ├───────┼──────┼───────┼─────────┼──────┼─────────┼────────┼──────────
//!  │ len   │ kind │ flags │ channel │ zero │ lane    │ call   │ payload…
//! ```
//!
//! Integers are big-endian; `len` counts the payload only and is at most [`MAX_PAYLOAD`]. A message
//! longer than that is cut into frames that all but the last carry [`FLAG_MORE`].
//!
//! The sixteen bytes of [`SYNC`] may come between two frames: they start a new session. Their first
//! four bytes are not a valid length, so they cannot be mistaken for a frame.

use std::fmt;

/// Longest payload of one frame, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// Longest message that is put together from frames, in bytes.
pub const MAX_MESSAGE: usize = 128 * 1024 * 1024;
/// Length of a frame's header, in bytes.
pub const HEADER_LEN: usize = 16;
/// What a sender may put on a channel before it has been granted any [`FrameKind::Credit`], bytes.
pub const INITIAL_WINDOW: u32 = 256 * 1024;
/// The message continues in the next frame of the same call.
pub const FLAG_MORE: u8 = 1;
/// Starts a session, between two frames.
pub const SYNC: [u8; 16] = *b"\xffPROVIUM-SYNC\r\n\xff";

/// An owner of guest state that calls are sent to: the VM or a worker.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Lane(pub u32);

impl Lane {
    /// The agent itself: figures, quiesce, identity, power.
    pub const AGENT: Self = Self(0);
    /// The VM: its commands, files and raw syscalls. Starts and retires workers.
    pub const VM: Self = Self(1);
    /// Workers count up from here.
    pub const FIRST_WORKER: Self = Self(16);
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AGENT => f.write_str("agent"),
            Self::VM => f.write_str("vm"),
            Self(worker) => write!(f, "worker {worker}"),
        }
    }
}

/// One thing asked of a lane. Chosen by the host, unique among the calls of a session that are open.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct CallId(pub u32);

impl CallId {
    /// Ids from here on are the agent's own, for calls between its processes. The host counts below.
    pub const FIRST_INTERNAL: Self = Self(0x8000_0000);
}

/// A byte stream inside a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Channel {
    /// Host to guest: a command's standard input, the content of a written file.
    Input = 0,
    /// Guest to host: a command's standard output, the content of a read file.
    Output = 1,
    /// Guest to host: a command's standard error.
    Error = 2,
}

impl Channel {
    /// All channels, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Input, Self::Output, Self::Error];

    fn from_wire(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// [`HostHello`](crate::HostHello) or [`Hello`](crate::Hello); first frame after [`SYNC`].
    Hello = 1,
    /// Host to agent, an [`Op`](crate::Op) or [`AgentOp`](crate::op::AgentOp): opens the call.
    Request = 2,
    /// Agent to host, `Result<Reply, WireError>`: closes the call.
    Reply = 3,
    /// Agent to host, an [`Event`](crate::Event): something about a call in progress.
    Event = 4,
    /// Bytes of a channel. Takes its payload's length from the channel's credit.
    Data = 5,
    /// No more bytes will come on this channel. No payload.
    End = 6,
    /// Grants the sender of a channel more bytes: a `u32`.
    Credit = 7,
    /// Host to agent: end the call as soon as possible. No payload.
    Cancel = 8,
    /// Host to agent: answer with a [`FrameKind::Pong`] of the same call id. No payload.
    Ping = 9,
    /// Agent to host.
    Pong = 10,
    /// Agent to host, a [`GuestRequest`](crate::GuestRequest); its call id is of the agent's own counting.
    GuestRequest = 11,
    /// Host to agent, a [`HostReply`](crate::HostReply) to the guest request of that id.
    HostReply = 12,
    /// Between the agent's own processes: the receiver ends what it has started, and exits. No payload.
    Goodbye = 13,
}

impl FrameKind {
    fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Request,
            3 => Self::Reply,
            4 => Self::Event,
            5 => Self::Data,
            6 => Self::End,
            7 => Self::Credit,
            8 => Self::Cancel,
            9 => Self::Ping,
            10 => Self::Pong,
            11 => Self::GuestRequest,
            12 => Self::HostReply,
            13 => Self::Goodbye,
            _ => return None,
        })
    }
}

/// One frame, its payload owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// Whether the message continues in a further frame.
    pub more: bool,
    /// Meaningful for [`FrameKind::Data`], [`FrameKind::End`] and [`FrameKind::Credit`].
    pub channel: Channel,
    /// The process in the guest.
    pub lane: Lane,
    /// The call.
    pub call: CallId,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame of a whole message, or one without payload.
    pub fn new(kind: FrameKind, lane: Lane, call: CallId, payload: Vec<u8>) -> Self {
        Self {
            kind,
            more: false,
            channel: Channel::Input,
            lane,
            call,
            payload,
        }
    }

    /// Bytes of a channel.
    pub fn data(lane: Lane, call: CallId, channel: Channel, payload: Vec<u8>) -> Self {
        Self {
            kind: FrameKind::Data,
            more: false,
            channel,
            lane,
            call,
            payload,
        }
    }

    /// The end of a channel.
    pub fn end(lane: Lane, call: CallId, channel: Channel) -> Self {
        Self {
            kind: FrameKind::End,
            more: false,
            channel,
            lane,
            call,
            payload: Vec::new(),
        }
    }

    /// Permission to send `bytes` more on a channel.
    pub fn credit(lane: Lane, call: CallId, channel: Channel, bytes: u32) -> Self {
        let payload = bytes.to_be_bytes().to_vec();
        Self {
            kind: FrameKind::Credit,
            more: false,
            channel,
            lane,
            call,
            payload,
        }
    }

    /// The bytes a [`FrameKind::Credit`] grants; `None` if the payload is not a `u32`.
    pub fn granted(&self) -> Option<u32> {
        self.payload
            .as_slice()
            .try_into()
            .ok()
            .map(u32::from_be_bytes)
    }

    /// Cuts a message into as many frames as it needs (at least one).
    pub fn split(
        kind: FrameKind,
        lane: Lane,
        call: CallId,
        message: &[u8],
    ) -> impl Iterator<Item = Self> + '_ {
        let count = message.len().div_ceil(MAX_PAYLOAD).max(1);
        (0..count).map(move |index| {
            let start = index * MAX_PAYLOAD;
            let end = message.len().min(start + MAX_PAYLOAD);
            let mut frame = Self::new(kind, lane, call, message[start..end].to_vec());
            frame.more = index + 1 < count;
            frame
        })
    }

    /// The header of this frame were its payload `len` bytes long: for those who send a payload
    /// from where it is.
    pub fn header(&self, len: usize) -> [u8; HEADER_LEN] {
        debug_assert!(len <= MAX_PAYLOAD, "a frame's payload is cut to size");
        let flags = if self.more { FLAG_MORE } else { 0 };
        let mut header = [0; HEADER_LEN];
        header[..4].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
        header[4..8].copy_from_slice(&[self.kind as u8, flags, self.channel as u8, 0]);
        header[8..12].copy_from_slice(&self.lane.0.to_be_bytes());
        header[12..].copy_from_slice(&self.call.0.to_be_bytes());
        header
    }

    /// Appends the frame's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(HEADER_LEN + self.payload.len());
        out.extend_from_slice(&self.header(self.payload.len()));
        out.extend_from_slice(&self.payload);
    }

    /// The frame's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// Why a stream stopped making sense. The stream cannot be used further without a new [`SYNC`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is over [`MAX_PAYLOAD`].
    #[error("a frame claims {0} bytes, more than the {MAX_PAYLOAD} allowed")]
    TooLong(u32),
    /// No such kind.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// No such channel.
    #[error("unknown channel {0}")]
    UnknownChannel(u8),
    /// Flags or the reserved byte hold what this version does not know.
    #[error("reserved bits set in a frame's header")]
    Reserved,
    /// A message put together from frames grew past [`MAX_MESSAGE`].
    #[error("a message is longer than the {MAX_MESSAGE} bytes allowed")]
    MessageTooLong,
}

/// An item of the byte stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// [`SYNC`]: a new session starts with the next frame.
    Sync,
    /// A frame.
    Frame(Frame),
}

/// Finds frames in bytes that arrive in pieces of any size.
///
/// It starts out hunting: everything up to the first [`SYNC`] is passed over. An error leaves it
/// hunting again.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    start: usize,
    hunting: bool,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameDecoder {
    /// A decoder that hunts for the first [`SYNC`].
    pub fn new() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            hunting: true,
        }
    }

    /// A decoder for a stream that is in step already, as between the agent's own processes.
    pub fn in_step() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            hunting: false,
        }
    }

    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start >= self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next item, or `None` when more bytes are needed.
    pub fn next_item(&mut self) -> Result<Option<Item>, FrameError> {
        if self.hunting && !self.hunt() {
            return Ok(None);
        }
        let result = self.parse();
        if result.is_err() {
            self.hunting = true;
        }
        result
    }

    /// Moves to the first [`SYNC`]; false when there is none yet.
    fn hunt(&mut self) -> bool {
        let rest = &self.buffer[self.start..];
        match rest.windows(SYNC.len()).position(|window| window == SYNC) {
            Some(at) => {
                self.start += at;
                self.hunting = false;
                true
            }
            None => {
                // The tail may be the beginning of a SYNC that has not arrived whole.
                self.start = self.buffer.len() - rest.len().min(SYNC.len() - 1);
                false
            }
        }
    }

    fn parse(&mut self) -> Result<Option<Item>, FrameError> {
        let rest = &self.buffer[self.start..];
        let Some(header) = rest.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        if *header == SYNC {
            self.start += SYNC.len();
            return Ok(Some(Item::Sync));
        }
        let word = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let len = word(0);
        let size = len as usize;
        if size > MAX_PAYLOAD {
            // Not a frame. What looks like the middle of one may still hold a SYNC.
            self.start += 1;
            return Err(FrameError::TooLong(len));
        }
        let kind = FrameKind::from_wire(header[4]).ok_or(FrameError::UnknownKind(header[4]))?;
        if header[5] & !FLAG_MORE != 0 || header[7] != 0 {
            return Err(FrameError::Reserved);
        }
        let channel = Channel::from_wire(header[6]).ok_or(FrameError::UnknownChannel(header[6]))?;
        let Some(payload) = rest.get(HEADER_LEN..HEADER_LEN + size) else {
            return Ok(None);
        };
        let frame = Frame {
            kind,
            more: header[5] & FLAG_MORE != 0,
            channel,
            lane: Lane(word(8)),
            call: CallId(word(12)),
            payload: payload.to_vec(),
        };
        self.start += HEADER_LEN + size;
        Ok(Some(Item::Frame(frame)))
    }
}

/// Puts one message together from the frames of one call.
#[derive(Debug, Default)]
pub struct Assembler {
    parts: Vec<u8>,
}

impl Assembler {
    /// Takes a frame; gives the message once its last frame is in.
    pub fn push(&mut self, frame: &Frame) -> Result<Option<Vec<u8>>, FrameError> {
        if self.parts.len() + frame.payload.len() > MAX_MESSAGE {
            return Err(FrameError::MessageTooLong);
        }
        self.parts.extend_from_slice(&frame.payload);
        Ok((!frame.more).then(|| std::mem::take(&mut self.parts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(decoder: &mut FrameDecoder) -> Vec<Item> {
        std::iter::from_fn(|| decoder.next_item().unwrap()).collect()
    }

    #[test]
    fn golden_header() {
        let mut frame = Frame::data(Lane(3), CallId(0x0102_0304), Channel::Error, b"hi".to_vec());
        frame.more = true;
        assert_eq!(
            frame.to_bytes(),
            b"\0\0\0\x02\x05\x01\x02\0\0\0\0\x03\x01\x02\x03\x04hi"
        );
    }

    #[test]
    fn garbage_before_the_first_sync_is_passed_over() {
        let frame = Frame::new(FrameKind::Ping, Lane::AGENT, CallId(7), Vec::new());
        let mut decoder = FrameDecoder::new();
        decoder.push(b"boot noise \xffPROVIUM");
        assert_eq!(drain(&mut decoder), []);
        decoder.push(b"\xff\xff");
        decoder.push(&SYNC);
        decoder.push(&frame.to_bytes());
        assert_eq!(drain(&mut decoder), [Item::Sync, Item::Frame(frame)]);
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_it_is_waited_for() {
        let mut decoder = FrameDecoder::in_step();
        decoder.push(&[0, 1, 0, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decoder.next_item(), Err(FrameError::TooLong(0x10001)));
        decoder.push(&SYNC);
        assert_eq!(
            decoder.next_item(),
            Ok(Some(Item::Sync)),
            "a new session recovers the stream"
        );
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..200), 0u32..9), 1..8),
            cut in 1usize..50,
        ) {
            let mut bytes = SYNC.to_vec();
            let mut expected = vec![Item::Sync];
            for (payload, call) in messages {
                let frame = Frame::data(Lane::VM, CallId(call), Channel::Output, payload);
                frame.encode(&mut bytes);
                expected.push(Item::Frame(frame));
            }
            let mut decoder = FrameDecoder::new();
            let mut found = Vec::new();
            for piece in bytes.chunks(cut) {
                decoder.push(piece);
                found.extend(drain(&mut decoder));
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn messages_survive_splitting(len in 0usize..300_000) {
            let message: Vec<u8> = (0..len).map(|at| at.to_le_bytes()[0]).collect();
            let mut assembler = Assembler::default();
            let mut whole = None;
            for frame in Frame::split(FrameKind::Reply, Lane::VM, CallId(1), &message) {
                prop_assert!(whole.is_none());
                whole = assembler.push(&frame).unwrap();
            }
            prop_assert_eq!(whole, Some(message));
        }

        #[test]
        fn any_bytes_are_answered_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = FrameDecoder::in_step();
            decoder.push(&bytes);
            for _ in 0..400 {
                if let Ok(None) = decoder.next_item() { break }
            }
        }
    }
}
