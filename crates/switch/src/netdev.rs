//! The framing of QEMU's `-netdev stream`, which `passt` uses, too: each frame follows its length, as 4
//! bytes in big-endian order (`net/stream.c` of QEMU).

use crate::MAX_FRAME;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// Bytes of the length in front of a frame.
pub const PREFIX: usize = 4;

/// The other end sent something that is not a frame; the connection cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the length of a frame is {length} bytes; at most {MAX_FRAME} are possible")]
pub struct FramingError {
    /// The length that was announced.
    pub length: usize,
}

/// Takes the next complete frame from `received`; `None` if more bytes are needed.
///
/// # Errors
/// When the length exceeds the longest possible frame.
pub fn decode(received: &mut BytesMut) -> Result<Option<Bytes>, FramingError> {
    let Some(prefix) = received.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(FramingError { length });
    }
    if received.len() < PREFIX + length {
        received.reserve(PREFIX + length - received.len());
        return Ok(None);
    }
    received.advance(PREFIX);
    Ok(Some(received.split_to(length).freeze()))
}

/// Appends a frame with its length. Frames that are longer than [`MAX_FRAME`] do not come out of a fabric.
pub fn encode(frame: &[u8], out: &mut BytesMut) {
    out.reserve(PREFIX + frame.len());
    out.put_u32(u32::try_from(frame.len()).unwrap_or(u32::MAX));
    out.put_slice(frame);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_framing_is_that_of_qemu() {
        let mut out = BytesMut::new();
        encode(b"frame", &mut out);
        assert_eq!(&out[..], b"\0\0\0\x05frame");
    }

    #[test]
    fn frames_are_complete_whatever_the_pieces() {
        let mut sent = BytesMut::new();
        for frame in [&b"one"[..], b"", b"three"] {
            encode(frame, &mut sent);
        }
        let (mut received, mut frames) = (BytesMut::new(), Vec::new());
        for byte in sent {
            received.put_u8(byte);
            while let Some(frame) = decode(&mut received).expect("frames") {
                frames.push(frame);
            }
        }
        assert_eq!(frames, [&b"one"[..], b"", b"three"]);
    }

    #[test]
    fn an_invalid_frame_length_is_an_error() {
        let mut received = BytesMut::from(&b"\xff\xff\xff\xffrest"[..]);
        let error = decode(&mut received).expect_err("too long");
        assert_eq!(error.length, 0xffff_ffff);
    }
}
