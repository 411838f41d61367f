//! What a modprobe process and the router say to each other.
//!
//! ```text
//! request   ├ length: u16 ├ name, UTF-8
//! answer    ├ length: u64 ├ Result<Vec<ModuleFile>, String>, as the protocol's codec writes it
//! ```
//! Integers are big-endian. Both ends are the same executable, so there is no version.

use provium_protocol::codec;
use provium_protocol::frame::MAX_MESSAGE;
use provium_protocol::message::ModuleFile;
use std::io::{self, Read};

/// Longest name that is asked for. The kernel's own aliases stay below half of it.
const MAX_NAME: usize = 512;

/// What a modprobe process asks of the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// A module's name or alias.
    pub(crate) name: String,
}

/// Bytes that no modprobe process of ours would send: close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotARequest;

/// The request's bytes; `None` for a name that is too long to be one.
pub(super) fn write_request(name: &str) -> Option<Vec<u8>> {
    let length = u16::try_from(name.len()).ok().filter(|_| name.len() <= MAX_NAME)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(name.as_bytes());
    Some(bytes)
}

/// The request in what has come in so far on a connection; `None` when there must come more.
pub(crate) fn read_request(bytes: &[u8]) -> Result<Option<Request>, NotARequest> {
    let Some((length, name)) = bytes.split_first_chunk() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > MAX_NAME || name.len() > length {
        return Err(NotARequest);
    }
    if name.len() < length {
        return Ok(None);
    }
    let name = str::from_utf8(name).map_err(|_| NotARequest)?.to_owned();
    Ok(Some(Request { name }))
}

/// The bytes to answer with; the router closes the connection after them. No modules: the host
/// knows no such name.
pub(crate) fn write_answer(modules: &[ModuleFile]) -> Vec<u8> {
    framed(&Ok(modules))
}

/// The bytes to answer with when the host could not be asked.
pub(crate) fn write_refusal(why: &str) -> Vec<u8> {
    framed(&Err(why))
}

fn framed(answer: &Result<&[ModuleFile], &str>) -> Vec<u8> {
    let message = codec::encode(answer);
    let mut bytes = (message.len() as u64).to_be_bytes().to_vec();
    bytes.extend_from_slice(&message);
    bytes
}

/// Reads the router's answer.
pub(super) fn read_answer(stream: &mut impl Read) -> io::Result<Result<Vec<ModuleFile>, String>> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    if length > 2 * MAX_MESSAGE as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = Vec::new();
    stream.take(length).read_to_end(&mut message)?;
    if message.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    codec::decode(&message).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_request_in_any_pieces() {
        let bytes = write_request("fs-ext4").unwrap();
        assert_eq!(bytes, b"\0\x07fs-ext4");
        for cut in 0..bytes.len() {
            assert_eq!(read_request(&bytes[..cut]), Ok(None), "{cut} bytes");
        }
        assert_eq!(read_request(&bytes), Ok(Some(Request { name: "fs-ext4".to_owned() })));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert_eq!(read_request(b"GET / HTTP/1.1\r\n"), Err(NotARequest));
        assert_eq!(read_request(b"\0\x01ab"), Err(NotARequest), "more than was announced");
        assert_eq!(read_request(b"\0\x01\xff"), Err(NotARequest), "no UTF-8");
        assert_eq!(write_request(&"x".repeat(MAX_NAME + 1)), None);
    }

    #[test]
    fn golden_answers() {
        let modules = [ModuleFile { name: "a".to_owned(), object: b"\x7fELF".to_vec().into() }];
        let bytes = write_answer(&modules);
        assert_eq!(bytes, b"\0\0\0\0\0\0\0\x0d\x81\xa2Ok\x91\x92\xa1a\xc4\x04\x7fELF");
        assert_eq!(read_answer(&mut bytes.as_slice()).unwrap().unwrap(), modules);
        let refusal = write_refusal("no");
        assert_eq!(refusal, b"\0\0\0\0\0\0\0\x08\x81\xa3Err\xa2no");
        assert_eq!(read_answer(&mut refusal.as_slice()).unwrap(), Err("no".to_owned()));
    }

    #[test]
    fn an_answer_cut_short_is_an_error() {
        let bytes = write_answer(&[]);
        for cut in 0..bytes.len() {
            assert!(read_answer(&mut &bytes[..cut]).is_err(), "{cut} bytes");
        }
    }
}
