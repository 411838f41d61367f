//! What the switch reads of a frame: its length and its addresses.
//!
//! A frame is the bytes from the destination address to the end of the payload, without preamble and
//! frame check sequence, as QEMU's netdevs exchange them. Tags (802.1Q, 802.1ad) are passed through.

use crate::MacAddress;

/// Bytes of the shortest frame that is forwarded: the header alone. Virtual NICs do not pad short frames.
pub const MIN_FRAME: usize = HEADER;
/// Bytes of the longest frame that any port accepts: the largest payload with two tags.
pub const MAX_FRAME: usize = MAX_MTU + HEADER + 2 * TAG;
/// The smallest MTU: what IPv4 requires of a link (RFC 791).
pub const MIN_MTU: usize = 68;
/// The largest MTU. A larger one does not fit the length field of an IP packet.
pub const MAX_MTU: usize = 65_535;

const HEADER: usize = 14;
const TAG: usize = 4;
/// Values of the type field that announce a tag: 802.1Q, 802.1ad.
const TAGS: [u16; 2] = [0x8100, 0x88a8];

/// The addresses of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The station, or group of stations, that it is for.
    pub destination: MacAddress,
    /// The station that it claims to come from.
    pub source: MacAddress,
}

impl Header {
    /// The header of a frame; `None` if the frame is shorter than [`MIN_FRAME`].
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<Self> {
        let header = frame.first_chunk::<HEADER>()?;
        let [a, b, c, d, e, f, g, h, i, j, k, l, _, _] = *header;
        Some(Self {
            destination: MacAddress([a, b, c, d, e, f]),
            source: MacAddress([g, h, i, j, k, l]),
        })
    }
}

/// Bytes of the frame's payload: what follows the header and at most two tags.
pub(crate) fn payload_len(frame: &[u8]) -> usize {
    let mut start = HEADER;
    for _ in 0..2 {
        let tag = frame
            .get(start - 2..start)
            .map(|two| u16::from_be_bytes([two[0], two[1]]));
        if !tag.is_some_and(|tag| TAGS.contains(&tag)) {
            break;
        }
        start += TAG;
    }
    frame.len().saturating_sub(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_the_addresses_of_the_frame() {
        let mut frame = [0; 60];
        frame[..12].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        let header = Header::of(&frame).expect("long enough");
        assert_eq!(header.destination, MacAddress([1, 2, 3, 4, 5, 6]));
        assert_eq!(header.source, MacAddress([7, 8, 9, 10, 11, 12]));
        assert_eq!(Header::of(&frame[..13]), None);
    }

    #[test]
    fn tags_do_not_count_as_payload() {
        let mut frame = [0; 114];
        assert_eq!(payload_len(&frame), 100);
        frame[12..14].copy_from_slice(&[0x81, 0x00]);
        assert_eq!(payload_len(&frame), 96);
        frame[12..18].copy_from_slice(&[0x88, 0xa8, 0, 1, 0x81, 0x00]);
        assert_eq!(payload_len(&frame), 92);
        assert_eq!(payload_len(&frame[..14]), 0);
        assert_eq!(payload_len(&frame[..3]), 0);
    }
}
