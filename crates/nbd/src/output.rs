//! Messages to the client.

use crate::request::{Cookie, ErrorValue, Request};
use crate::wire::{SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, chunk, length};

/// More initialised bytes than this are not kept for later replies.
const KEPT: usize = 2 << 20;

/// Whole messages to the client, one behind the other. Sections *Simple reply message* and *Structured reply chunk
/// message*.
///
/// The bytes are sent with one system call, whether they are one reply or many. The memory is used again for later
/// replies, so it is not filled with zeroes for each.
#[derive(Debug, Default)]
pub struct Output {
    /// All of it is initialised; the messages are the first `end` bytes.
    bytes: Vec<u8>,
    end: usize,
}

impl Output {
    /// What to send.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// Forgets what has been sent.
    pub fn clear(&mut self) {
        self.end = 0;
        if self.bytes.len() > KEPT {
            self.bytes = Vec::new();
        }
    }

    /// The request has been carried out, and has no data to return.
    pub fn success(&mut self, request: &Request) {
        self.simple(request.cookie, 0);
    }

    /// The request has failed, or is refused.
    pub fn error(&mut self, request: &Request, error: ErrorValue) {
        self.put_error(
            request.cookie,
            request.is_structured,
            request.error_offset(),
            error,
        );
    }

    /// The request is a read; `fill` gets a buffer of its length. If that fails, the client gets the error and no data.
    pub fn read(
        &mut self,
        request: &Request,
        fill: impl FnOnce(&mut [u8]) -> Result<(), ErrorValue>,
    ) {
        let start = self.end;
        if request.is_structured {
            // *length* fits: a read has at most `MAX_REQUEST` bytes.
            let payload = request.length.saturating_add(8);
            self.chunk_header(chunk::OFFSET_DATA, request.cookie, payload);
            self.put(&request.offset.to_be_bytes());
        } else {
            self.simple(request.cookie, 0);
        }
        let data = self.extend(request.length as usize);
        if let Err(error) = fill(data) {
            self.end = start;
            self.error(request, error);
        }
    }

    /// A refusal or a failure. `offset` is where in the disk it happened, if it did at a place.
    pub(crate) fn put_error(
        &mut self,
        cookie: Cookie,
        is_structured: bool,
        offset: Option<u64>,
        error: ErrorValue,
    ) {
        let value = error as u32;
        if !is_structured {
            return self.simple(cookie, value);
        }
        // The value and the length of a text, which is not sent, are 6 bytes.
        match offset {
            None => self.chunk_header(chunk::ERROR, cookie, 6),
            Some(_) => self.chunk_header(chunk::ERROR_OFFSET, cookie, 14),
        }
        self.put(&value.to_be_bytes());
        self.put(&0u16.to_be_bytes());
        if let Some(offset) = offset {
            self.put(&offset.to_be_bytes());
        }
    }

    /// Raw bytes, as the handshake sends them.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.extend(bytes.len()).copy_from_slice(bytes);
    }

    /// Lengthens the messages by `count` bytes, whose content is undefined.
    fn extend(&mut self, count: usize) -> &mut [u8] {
        let start = self.end;
        self.end += count;
        if self.bytes.len() < self.end {
            self.bytes.resize(self.end, 0);
        }
        &mut self.bytes[start..self.end]
    }

    fn simple(&mut self, cookie: Cookie, error: u32) {
        let mut message = [0; length::SIMPLE_REPLY];
        message[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
        message[4..8].copy_from_slice(&error.to_be_bytes());
        message[8..].copy_from_slice(&cookie.0.to_be_bytes());
        self.put(&message);
    }

    /// The header of the only chunk of a reply.
    fn chunk_header(&mut self, kind: u16, cookie: Cookie, payload: u32) {
        let mut message = [0; length::DATA_CHUNK - 8];
        message[..4].copy_from_slice(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
        message[4..6].copy_from_slice(&chunk::FLAG_DONE.to_be_bytes());
        message[6..8].copy_from_slice(&kind.to_be_bytes());
        message[8..16].copy_from_slice(&cookie.0.to_be_bytes());
        message[16..].copy_from_slice(&payload.to_be_bytes());
        self.put(&message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::RequestKind;

    fn request(is_structured: bool) -> Request {
        Request {
            cookie: Cookie(0x0102_0304_0506_0708),
            kind: RequestKind::Read,
            offset: 0x1_0000_0200,
            length: 3,
            fua: false,
            is_structured,
        }
    }

    const COOKIE: &[u8] = b"\x01\x02\x03\x04\x05\x06\x07\x08";
    const OFFSET: &[u8] = b"\0\0\0\x01\0\0\x02\0";

    fn output(write: impl FnOnce(&mut Output)) -> Vec<u8> {
        let mut output = Output::default();
        write(&mut output);
        output.bytes().to_vec()
    }

    #[test]
    fn simple_replies() {
        let request = request(false);
        assert_eq!(
            output(|o| o.success(&request)),
            [b"\x67\x44\x66\x98\0\0\0\0", COOKIE].concat()
        );
        assert_eq!(
            output(|o| o.error(&request, ErrorValue::NoSpace)),
            [b"\x67\x44\x66\x98\0\0\0\x1c", COOKIE].concat()
        );
        let data = output(|o| {
            o.read(&request, |buffer| {
                buffer.copy_from_slice(b"abc");
                Ok(())
            });
        });
        assert_eq!(data, [b"\x67\x44\x66\x98\0\0\0\0", COOKIE, b"abc"].concat());
    }

    #[test]
    fn structured_replies() {
        let request = request(true);
        let data = output(|o| {
            o.read(&request, |buffer| {
                buffer.copy_from_slice(b"abc");
                Ok(())
            });
        });
        let header = b"\x66\x8e\x33\xef\0\x01\0\x01";
        assert_eq!(
            data,
            [header, COOKIE, b"\0\0\0\x0b", OFFSET, b"abc"].concat()
        );
        let error = output(|o| o.error(&request, ErrorValue::Io));
        let header = b"\x66\x8e\x33\xef\0\x01\x80\x02";
        assert_eq!(
            error,
            [header, COOKIE, b"\0\0\0\x0e\0\0\0\x05\0\0", OFFSET].concat()
        );
        let flush = Request {
            kind: RequestKind::Flush,
            offset: 0,
            length: 0,
            ..request
        };
        let header = b"\x66\x8e\x33\xef\0\x01\x80\x01";
        assert_eq!(
            output(|o| o.error(&flush, ErrorValue::Io)),
            [header, COOKIE, b"\0\0\0\x06\0\0\0\x05\0\0"].concat()
        );
    }

    #[test]
    fn a_read_that_fails_has_no_data() {
        for is_structured in [false, true] {
            let request = request(is_structured);
            let failed = output(|o| {
                o.success(&request);
                o.read(&request, |_| Err(ErrorValue::Io));
            });
            let wanted = output(|o| {
                o.success(&request);
                o.error(&request, ErrorValue::Io);
            });
            assert_eq!(failed, wanted);
        }
    }

    #[test]
    fn memory_is_used_again_up_to_a_limit() {
        let mut output = Output::default();
        output.put(&[1; 100]);
        output.clear();
        assert_eq!((output.bytes(), output.bytes.len()), (&[][..], 100));
        output.put(b"ab");
        assert_eq!(output.bytes(), b"ab");
        output.put(&vec![0; KEPT]);
        output.clear();
        assert_eq!(output.bytes.len(), 0);
    }
}
