//! Frames from bytes that arrive in pieces of any size, and messages from frames.

use crate::frame::ids::{CallId, Lane, StreamId};
use crate::frame::layout::{
    FLAG_MORE, Frame, FrameKind, HEADER_LEN, MAX_MESSAGE, MAX_PAYLOAD, SYNC,
};

/// Why bytes are not frames. The stream cannot be used further without a new [`SYNC`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is over [`MAX_PAYLOAD`].
    #[error("a frame claims {0} bytes, more than the {MAX_PAYLOAD} allowed")]
    TooLong(u32),
    /// No such kind.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// No such stream.
    #[error("unknown stream {0}")]
    UnknownStream(u8),
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
        let stream = StreamId::from_wire(header[6]).ok_or(FrameError::UnknownStream(header[6]))?;
        let Some(payload) = rest.get(HEADER_LEN..HEADER_LEN + size) else {
            return Ok(None);
        };
        let frame = Frame {
            kind,
            more: header[5] & FLAG_MORE != 0,
            stream,
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
    /// Takes a frame; returns the message with its last frame.
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
                let frame = Frame::data(Lane::VM, CallId(call), StreamId::Output, payload);
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
