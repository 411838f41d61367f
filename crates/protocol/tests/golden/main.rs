//! The exact bytes of every message. A change to one requires a new
//! [`PROTOCOL_VERSION`](provium_protocol::PROTOCOL_VERSION).

mod messages;
mod ops;
mod sessions;

/// Checks that a value is written as these bytes, and read back from them.
macro_rules! golden {
    ($($value:expr => $bytes:literal),* $(,)?) => { $({
        let value = $value;
        let bytes = provium_protocol::codec::encode(&value);
        let expected: &[u8] = $bytes;
        assert_eq!(
            bytes.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "{value:?}"
        );
        let back = provium_protocol::codec::decode(&bytes).unwrap();
        assert_eq!(value, back);
    })* };
}
pub(crate) use golden;
