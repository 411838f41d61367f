//! Messages to bytes and back: msgpack, structs as arrays, enum variants by name.
//!
//! With [`decode`](crate::decode) and [`msgpack`](crate::msgpack), the only place that knows how messages are
//! serialised.

use crate::decode;
use crate::msgpack::MsgpackError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes that are not the message they should be.
#[derive(Debug, thiserror::Error)]
#[error("not a valid message")]
pub struct DecodeError(#[source] MsgpackError);

/// A message's bytes.
#[expect(
    clippy::expect_used,
    reason = "no message type of this crate has a failing serialiser"
)]
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    rmp_serde::to_vec(message).expect("messages are plain data, written to memory")
}

impl DecodeError {
    /// Whether the message has more values than allowed, or is nested too deeply. It may be well-formed
    /// otherwise.
    pub fn is_too_large(&self) -> bool {
        matches!(self.0, MsgpackError::TooMany | MsgpackError::Deep)
    }
}

/// The message in `bytes`. Lengths inside are bounded by the bytes that are there.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode_bounded(bytes, usize::MAX)
}

/// As [`decode`], of a message that may have `max_values` elements in all its lists together. A byte can
/// stand for an element that takes a hundred bytes of memory, so the length alone does not bound that.
pub fn decode_bounded<T: DeserializeOwned>(
    bytes: &[u8],
    max_values: usize,
) -> Result<T, DecodeError> {
    decode::from_slice_bounded(bytes, max_values).map_err(DecodeError)
}
