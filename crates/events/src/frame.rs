//! Events to bytes and back: a length (4 bytes, big-endian), then a msgpack map
//! `{ts, kind, payload}`.
//!
//! The only place that knows the serialisation library. The decoder takes bytes from anywhere: a
//! length is bounded before anything is kept for it, nesting is bounded, and after a frame that
//! does not parse it gives no more, since what follows cannot be trusted to be in step.

use crate::event::Event;
use serde::{Deserialize, Serialize};

/// Longest frame, without its length, in bytes.
pub const MAX_FRAME: usize = 64 * 1024 * 1024;

/// Deepest nesting of a payload.
const MAX_DEPTH: usize = 128;

/// Bytes of the length in front of a frame.
const LENGTH_BYTES: usize = 4;

/// An event and when it happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimedEvent {
    /// Nanoseconds since 1970.
    pub ts: i64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Why an event cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Its bytes would be more than any decoder takes.
    #[error("an event of {length} bytes is longer than a frame may be ({MAX_FRAME})")]
    TooLong {
        /// What it would take.
        length: usize,
    },
    /// The serialisation library refused it.
    #[error("an event cannot be encoded")]
    Unencodable(#[source] rmp_serde::encode::Error),
}

/// Why bytes are not an event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The length is beyond all that is ever sent.
    #[error("a frame of {length} bytes is longer than a frame may be ({MAX_FRAME})")]
    TooLong {
        /// What the frame says.
        length: usize,
    },
    /// The frame is not an event, or one of another version.
    #[error("a frame is not an event of this version")]
    NotAnEvent(#[source] rmp_serde::decode::Error),
    /// There are bytes behind the event, within its frame.
    #[error("a frame has {count} bytes behind its event")]
    Trailing {
        /// How many.
        count: usize,
    },
}

/// The bytes of an event, its length in front. An event that would be longer than a frame is cut, and
/// says by how much.
///
/// # Errors
/// [`EncodeError`] for an event that is too long also then.
pub fn encode(stamped: &TimedEvent) -> Result<Vec<u8>, EncodeError> {
    let mut body = rmp_serde::to_vec_named(stamped).map_err(EncodeError::Unencodable)?;
    if body.len() > MAX_FRAME {
        let mut cut = stamped.clone();
        cut.event.shorten();
        body = rmp_serde::to_vec_named(&cut).map_err(EncodeError::Unencodable)?;
    }
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= MAX_FRAME);
    let length = length.ok_or(EncodeError::TooLong { length: body.len() })?;
    let mut frame = Vec::with_capacity(LENGTH_BYTES + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Takes bytes as they come and gives events.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were given out as events.
    taken: usize,
    failed: bool,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes further bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.failed {
            return;
        }
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next event; `None` if bytes are missing, and always after an error.
    pub fn next_event(&mut self) -> Result<Option<TimedEvent>, DecodeError> {
        if self.failed {
            return Ok(None);
        }
        self.take_one().inspect_err(|_| {
            self.failed = true;
            self.buffer = Vec::new();
            self.taken = 0;
        })
    }

    /// Whether the stream could end here without cutting a frame in two.
    pub fn is_between_frames(&self) -> bool {
        self.taken == self.buffer.len()
    }

    fn take_one(&mut self) -> Result<Option<TimedEvent>, DecodeError> {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(DecodeError::TooLong { length });
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let stamped = decode_body(body)?;
        self.taken += LENGTH_BYTES + length;
        Ok(Some(stamped))
    }
}

fn decode_body(body: &[u8]) -> Result<TimedEvent, DecodeError> {
    let mut rest = body;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    deserializer.set_max_depth(MAX_DEPTH);
    let stamped = TimedEvent::deserialize(&mut deserializer).map_err(DecodeError::NotAnEvent)?;
    match rest.len() {
        0 => Ok(stamped),
        count => Err(DecodeError::Trailing { count }),
    }
}
