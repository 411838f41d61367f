//! Requests: section *Request message*, and what *Request types* and *Error values* say of their refusal.

use crate::violation::Violation;
use crate::wire::{MAX_REQUEST, REQUEST_MAGIC, SECTOR, command, command_flag, field, length};

/// The client's name for a request, which its reply repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cookie(pub u64);

/// A request that was checked: it covers whole sectors within the disk, and the export allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What the reply repeats.
    pub cookie: Cookie,
    /// Its command.
    pub kind: RequestKind,
    /// Where it begins, bytes; 0 for a flush.
    pub offset: u64,
    /// How much it covers, bytes; 0 for a flush, otherwise at least a sector.
    pub length: u32,
    /// Force unit access: what it writes is durable before the reply.
    pub fua: bool,
    /// Whether the client has negotiated structured replies.
    pub(crate) is_structured: bool,
}

/// The command of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// `NBD_CMD_READ`
    Read,
    /// `NBD_CMD_WRITE`
    Write,
    /// `NBD_CMD_FLUSH`
    Flush,
    /// `NBD_CMD_TRIM`
    Trim,
    /// `NBD_CMD_WRITE_ZEROES`. `NO_HOLE` is accepted and has no meaning for a disk whose space is never reserved;
    /// `FAST_ZERO` is always granted, since no data travels.
    WriteZeroes,
}

impl Request {
    /// The offset that an error reports.
    pub(crate) fn error_offset(&self) -> Option<u64> {
        (self.kind != RequestKind::Flush).then_some(self.offset)
    }
}

/// Why a request has failed or is refused: section *Error values*, whose numbers these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ErrorValue {
    /// `EPERM`: a write to a disk that is read-only.
    NotPermitted = 1,
    /// `EIO`
    Io = 5,
    /// `ENOMEM`
    NoMemory = 12,
    /// `EINVAL`: no request, or none for this disk.
    Invalid = 22,
    /// `ENOSPC`: no space left, or a write beyond the end.
    NoSpace = 28,
    /// `EOVERFLOW`: a read that is too long for one reply.
    Overflow = 75,
    /// `ENOTSUP`
    NotSupported = 95,
    /// `ESHUTDOWN`: the server ends.
    Shutdown = 108,
}

/// What the handshake has negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    /// Size of the disk, bytes.
    pub(crate) size: u64,
    pub(crate) is_read_only: bool,
    pub(crate) is_structured: bool,
}

/// The header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// It can be carried out, when its data is there.
    Accepted(Request),
    /// It is answered with an error, after its `data` bytes of data.
    Refused { refusal: Refusal, data: u32 },
    /// The client disconnects.
    Disconnect,
}

/// The answer to a request that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) cookie: Cookie,
    /// The offset that it reports. It must lie within the request, and a client may check that.
    pub(crate) offset: Option<u64>,
    pub(crate) error: ErrorValue,
}

/// Decodes and checks a header.
pub(crate) fn decode(
    session: Session,
    header: &[u8; length::REQUEST],
) -> Result<Header, Violation> {
    let magic = u32::from_be_bytes(field(header, 0));
    if magic != REQUEST_MAGIC {
        return Err(Violation::RequestMagic(magic));
    }
    let flags = u16::from_be_bytes(field(header, 4));
    let command = u16::from_be_bytes(field(header, 6));
    let cookie = Cookie(u64::from_be_bytes(field(header, 8)));
    let offset = u64::from_be_bytes(field(header, 16));
    let length = u32::from_be_bytes(field(header, 24));
    if command == command::DISC {
        return Ok(Header::Disconnect);
    }
    let data = if command == command::WRITE { length } else { 0 };
    if data > MAX_REQUEST {
        return Err(Violation::TooMuchData(data));
    }
    let kind = check(session, command, flags, offset, length);
    Ok(match kind {
        Ok(kind) => Header::Accepted(Request {
            cookie,
            kind,
            offset,
            length,
            fua: flags & command_flag::FUA != 0,
            is_structured: session.is_structured,
        }),
        Err(error) => Header::Refused {
            refusal: Refusal {
                cookie,
                offset: (length > 0 && command != command::FLUSH).then_some(offset),
                error,
            },
            data,
        },
    })
}

fn check(
    session: Session,
    command: u16,
    flags: u16,
    offset: u64,
    length: u32,
) -> Result<RequestKind, ErrorValue> {
    let kind = match command {
        command::READ => RequestKind::Read,
        command::WRITE => RequestKind::Write,
        command::FLUSH => RequestKind::Flush,
        command::TRIM => RequestKind::Trim,
        command::WRITE_ZEROES => RequestKind::WriteZeroes,
        _ => return Err(ErrorValue::Invalid),
    };
    // FUA is allowed with every command, whether it writes or not.
    let known = command_flag::FUA
        | match kind {
            RequestKind::Read if session.is_structured => command_flag::DF,
            RequestKind::WriteZeroes => command_flag::NO_HOLE | command_flag::FAST_ZERO,
            _ => 0,
        };
    if flags & !known != 0 {
        return Err(ErrorValue::Invalid);
    }
    let writes = matches!(
        kind,
        RequestKind::Write | RequestKind::Trim | RequestKind::WriteZeroes
    );
    if writes && session.is_read_only {
        return Err(ErrorValue::NotPermitted);
    }
    if kind == RequestKind::Flush {
        let is_reserved = offset == 0 && length == 0;
        return is_reserved.then_some(kind).ok_or(ErrorValue::Invalid);
    }
    let is_whole = offset.is_multiple_of(SECTOR.into()) && length.is_multiple_of(SECTOR);
    if length == 0 || !is_whole {
        return Err(ErrorValue::Invalid);
    }
    if kind == RequestKind::Read && length > MAX_REQUEST {
        return Err(match flags & command_flag::DF {
            0 => ErrorValue::Invalid,
            _ => ErrorValue::Overflow,
        });
    }
    let end = offset.checked_add(u64::from(length));
    if end.is_none_or(|end| end > session.size) {
        return Err(match kind {
            RequestKind::Write | RequestKind::WriteZeroes => ErrorValue::NoSpace,
            _ => ErrorValue::Invalid,
        });
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Session = Session {
        size: 1 << 30,
        is_read_only: false,
        is_structured: true,
    };

    fn header(flags: u16, command: u16, offset: u64, length: u32) -> [u8; 28] {
        let mut header = [0; 28];
        header[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        header[4..6].copy_from_slice(&flags.to_be_bytes());
        header[6..8].copy_from_slice(&command.to_be_bytes());
        header[8..16].copy_from_slice(&7u64.to_be_bytes());
        header[16..24].copy_from_slice(&offset.to_be_bytes());
        header[24..].copy_from_slice(&length.to_be_bytes());
        header
    }

    /// The error of a request, if it is refused; and how much data follows.
    fn refused(
        session: Session,
        flags: u16,
        command: u16,
        offset: u64,
        length: u32,
    ) -> Option<(ErrorValue, u32)> {
        match decode(session, &header(flags, command, offset, length)).unwrap() {
            Header::Refused { refusal, data } => Some((refusal.error, data)),
            Header::Accepted(_) | Header::Disconnect => None,
        }
    }

    #[test]
    fn a_request_has_all_its_fields() {
        let header = *b"\x25\x60\x95\x13\0\x01\0\x06\x11\x12\x13\x14\x15\x16\x17\x18\0\0\0\0\0\x10\0\0\0\0\x02\0";
        let wanted = Request {
            cookie: Cookie(0x1112_1314_1516_1718),
            kind: RequestKind::WriteZeroes,
            offset: 1 << 20,
            length: 512,
            fua: true,
            is_structured: true,
        };
        assert_eq!(decode(SESSION, &header), Ok(Header::Accepted(wanted)));
    }

    #[test]
    fn requests_that_are_refused() {
        use ErrorValue::{Invalid, NoSpace, NotPermitted, Overflow};
        let end = SESSION.size;
        for (flags, command, offset, length, error) in [
            (0, command::READ, end, 512, Invalid),
            (0, command::READ, end - 512, 1024, Invalid),
            (0, command::READ, u64::MAX - 511, 1024, Invalid),
            (0, command::READ, 0, 0, Invalid),
            (0, command::READ, 0, 100, Invalid),
            (0, command::READ, 100, 512, Invalid),
            (0, command::READ, 0, MAX_REQUEST + 512, Invalid),
            (4, command::READ, 0, MAX_REQUEST + 512, Overflow),
            (2, command::READ, 0, 512, Invalid),
            (0, command::WRITE, end, 512, NoSpace),
            (0, command::WRITE_ZEROES, end - 512, 1024, NoSpace),
            (0, command::TRIM, end, 512, Invalid),
            (4, command::WRITE, 0, 512, Invalid),
            (0, command::FLUSH, 512, 0, Invalid),
            (0, command::FLUSH, 0, 512, Invalid),
            // CACHE, BLOCK_STATUS, and what does not exist.
            (0, 5, 0, 512, Invalid),
            (0, 7, 0, 512, Invalid),
            (0, 0x7777, 0, u32::MAX, Invalid),
        ] {
            let data = if command == command::WRITE { length } else { 0 };
            assert_eq!(
                refused(SESSION, flags, command, offset, length),
                Some((error, data)),
                "{flags} {command} {offset} {length}"
            );
        }
        let read_only = Session {
            is_read_only: true,
            ..SESSION
        };
        for command in [command::WRITE, command::TRIM, command::WRITE_ZEROES] {
            let error = refused(read_only, 0, command, 0, 512).map(|(error, _)| error);
            assert_eq!(error, Some(NotPermitted));
        }
        assert_eq!(refused(read_only, 0, command::FLUSH, 0, 0), None);
        let simple = Session {
            is_structured: false,
            ..SESSION
        };
        let error = refused(simple, command_flag::DF, command::READ, 0, 512);
        assert_eq!(error, Some((Invalid, 0)));
    }

    #[test]
    fn requests_that_are_accepted() {
        let end = SESSION.size;
        for (flags, command, offset, length) in [
            (5, command::READ, end - 512, 512),
            (0, command::READ, 0, MAX_REQUEST),
            (1, command::WRITE, end - 1024, 1024),
            (1, command::FLUSH, 0, 0),
            (1, command::TRIM, 0, 1 << 30),
            (0x13, command::WRITE_ZEROES, 0, 1 << 30),
        ] {
            assert_eq!(refused(SESSION, flags, command, offset, length), None);
        }
    }

    #[test]
    fn violations_that_cannot_be_answered() {
        let long = header(0, command::WRITE, 0, MAX_REQUEST + 512);
        assert_eq!(
            decode(SESSION, &long),
            Err(Violation::TooMuchData(MAX_REQUEST + 512))
        );
        assert_eq!(decode(SESSION, &[0; 28]), Err(Violation::RequestMagic(0)));
    }
}
