//! Messages to bytes and back: msgpack, structs as arrays, enum variants by name.
//!
//! The only place that knows the serialisation library.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes that are not the message they should be.
#[derive(Debug, thiserror::Error)]
#[error("not a valid message")]
pub struct DecodeError(#[source] rmp_serde::decode::Error);

/// A message's bytes.
#[expect(
    clippy::expect_used,
    reason = "no message type of this crate has a failing serialiser"
)]
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    rmp_serde::to_vec(message).expect("messages are plain data, written to memory")
}

/// The message in `bytes`. Lengths inside are bounded by the bytes that are there.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    rmp_serde::from_slice(bytes).map_err(DecodeError)
}
