//! The bytes of a frame.
//!
//! ```text
//!  0       4      5       6         7      8        12       16
//!  ├───────┼──────┼───────┼─────────┼──────┼─────────┼────────┼──────────
//!  │ len   │ kind │ flags │ stream  │ zero │ lane    │ call   │ payload…
//! ```
//!
//! Integers are big-endian; `len` counts the payload only and is at most [`MAX_PAYLOAD`]. A message
//! longer than that is cut into frames that all but the last carry [`FLAG_MORE`].
//!
//! The sixteen bytes of [`SYNC`] may come between two frames: they start a new session. Their first
//! four bytes are not a valid length, so they cannot be mistaken for a frame.

use crate::frame::ids::{CallId, Lane, StreamId};

/// Longest payload of one frame, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// Longest message that is put together from frames, in bytes.
pub const MAX_MESSAGE: usize = 128 * 1024 * 1024;
/// Length of a frame's header, in bytes.
pub const HEADER_LEN: usize = 16;
/// What a sender may put on a stream before it has been granted any [`FrameKind::Credit`], bytes.
pub const INITIAL_WINDOW: u32 = 256 * 1024;
/// The message continues in the next frame of the same call.
pub const FLAG_MORE: u8 = 1;
/// Starts a session, between two frames.
pub const SYNC: [u8; 16] = *b"\xffPROVIUM-SYNC\r\n\xff";

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
    /// Bytes of a stream. Their number is taken from the stream's credit.
    Data = 5,
    /// No more bytes will come on this stream. No payload.
    End = 6,
    /// Grants the sender of a stream more bytes: a `u32`.
    Credit = 7,
    /// Host to agent: end the call as soon as possible. No payload.
    Cancel = 8,
    /// Host to agent: answer with a [`FrameKind::Pong`] of the same call id. No payload.
    Ping = 9,
    /// Agent to host.
    Pong = 10,
    /// Agent to host, a [`GuestRequest`](crate::GuestRequest); the agent counts its call ids.
    GuestRequest = 11,
    /// Host to agent, a [`HostReply`](crate::HostReply) to the guest request of that id.
    HostReply = 12,
    /// Between the agent's own processes: the receiver ends what it has started, and exits. No payload.
    Goodbye = 13,
}

impl FrameKind {
    pub(super) fn from_wire(byte: u8) -> Option<Self> {
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
    pub stream: StreamId,
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
            stream: StreamId::Input,
            lane,
            call,
            payload,
        }
    }

    /// Bytes of a stream.
    pub fn data(lane: Lane, call: CallId, stream: StreamId, payload: Vec<u8>) -> Self {
        Self {
            kind: FrameKind::Data,
            more: false,
            stream,
            lane,
            call,
            payload,
        }
    }

    /// The end of a stream.
    pub fn end(lane: Lane, call: CallId, stream: StreamId) -> Self {
        Self {
            kind: FrameKind::End,
            more: false,
            stream,
            lane,
            call,
            payload: Vec::new(),
        }
    }

    /// Permission to send `bytes` more on a stream.
    pub fn credit(lane: Lane, call: CallId, stream: StreamId, bytes: u32) -> Self {
        let payload = bytes.to_be_bytes().to_vec();
        Self {
            kind: FrameKind::Credit,
            more: false,
            stream,
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

    /// The header of this frame for a payload of `len` bytes, which the caller sends from elsewhere.
    pub fn header(&self, len: usize) -> [u8; HEADER_LEN] {
        debug_assert!(len <= MAX_PAYLOAD, "a frame's payload is cut to size");
        let flags = if self.more { FLAG_MORE } else { 0 };
        let mut header = [0; HEADER_LEN];
        header[..4].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
        header[4..8].copy_from_slice(&[self.kind as u8, flags, self.stream as u8, 0]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_header() {
        let mut frame = Frame::data(
            Lane(3),
            CallId(0x0102_0304),
            StreamId::Error,
            b"hi".to_vec(),
        );
        frame.more = true;
        assert_eq!(
            frame.to_bytes(),
            b"\0\0\0\x02\x05\x01\x02\0\0\0\0\x03\x01\x02\x03\x04hi"
        );
    }
}
