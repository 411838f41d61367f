//! The format of netlink: requests to bytes, and messages and attributes from bytes.
//!
//! Format: the kernel's `include/uapi/linux/netlink.h` and `rtnetlink.h`; numbers have the byte order of
//! the machine.

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bits of an attribute's type that are flags.
const TYPE_MASK: u16 = 0x3fff;

/// A request, without its sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request(Vec<u8>);

impl Request {
    /// A request of this type, with the fixed part that the type has.
    pub(super) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Self {
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).unwrap_or(0);
        let mut bytes = Vec::with_capacity(128);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        Self(bytes)
    }

    /// Adds an attribute.
    pub(super) fn with(mut self, kind: u16, payload: &[u8]) -> Self {
        let len = u16::try_from(4 + payload.len()).unwrap_or(u16::MAX);
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(payload);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Its bytes.
    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// A message of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

/// The messages of one datagram.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = usize::try_from(word(bytes, 0)?).ok()?;
        let payload = bytes.get(HEADER..len)?;
        let message = Message {
            kind: half(bytes, 4)?,
            flags: half(bytes, 6)?,
            sequence: word(bytes, 8)?,
            payload,
        };
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes behind a fixed part of that length: their types and payloads.
pub(super) fn attributes(payload: &[u8], fixed: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut bytes = payload.get(fixed..).unwrap_or_default();
    std::iter::from_fn(move || {
        let len = usize::from(half(bytes, 0)?);
        let kind = half(bytes, 2)? & TYPE_MASK;
        let payload = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// The number of 16 bits at a place.
pub(super) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

/// The number of 32 bits at a place.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// The number of 64 bits at a place.
pub(super) fn long(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_padded_and_has_its_length() {
        let request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, &[1, 2, 3, 4]);
        let bytes = request.with(3, b"eth0\0").with(4, &[9; 4]).finish(7);
        let expected = [
            &[44, 0, 0, 0, 16, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0][..],
            &[1, 2, 3, 4],
            &[9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0],
            &[8, 0, 4, 0, 9, 9, 9, 9],
        ]
        .concat();
        // The last three bytes of the second line are padding.
        assert_eq!(bytes.len(), expected.len());
        assert_eq!(bytes[4..], expected[4..]);
        assert_eq!(word(&bytes, 0), Some(bytes.len() as u32));
        let message = messages(&bytes).next().unwrap();
        assert_eq!((message.kind, message.sequence), (libc::RTM_NEWLINK, 7));
        let attributes: Vec<_> = attributes(message.payload, 4).collect();
        assert_eq!(attributes, [(3, &b"eth0\0"[..]), (4, &[9; 4])]);
    }

    #[test]
    fn several_messages_are_found_and_a_cut_one_ends_them() {
        let one = Request::new(1, 0, b"").with(1, b"x").finish(1);
        let two = Request::new(2, 0, b"").finish(2);
        let both = [one, two].concat();
        let kinds = |bytes| {
            messages(bytes)
                .map(|message| message.kind)
                .collect::<Vec<_>>()
        };
        assert_eq!(kinds(&both), [1, 2]);
        assert_eq!(kinds(&both[..both.len() - 1]), [1]);
        assert_eq!(kinds(&[3, 0, 0, 0]), []);
        assert_eq!(attributes(&[2, 0, 1, 0], 0).count(), 0);
        assert_eq!(attributes(&[9, 0, 1, 0], 0).count(), 0);
    }
}
