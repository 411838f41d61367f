//! The `bzImage` of x86: where its payload is.
//!
//! Source: the kernel's Documentation/arch/x86/boot.rst.

/// Sectors of the boot code, at this offset; 0 means 4.
const SETUP_SECTS: usize = 0x1f1;
/// `HdrS`.
const SIGNATURE: usize = 0x202;
/// The boot protocol's version.
const VERSION: usize = 0x206;
/// Where the payload is, from the start of the protected-mode code; and its length.
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// The version that has the payload's fields.
const VERSION_WITH_PAYLOAD: u32 = 0x208;

const SECTOR: usize = 512;

/// What a file is that starts like a `bzImage`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BzImage<'a> {
    /// Its packed `vmlinux`.
    Payload(&'a [u8]),
    /// It is too old to say where that is.
    Opaque,
    /// It ends before its payload does.
    Truncated,
}

/// `None` if `bytes` are no `bzImage`.
pub(crate) fn parse(bytes: &[u8]) -> Option<BzImage<'_>> {
    if bytes.get(SIGNATURE..SIGNATURE + 4)? != b"HdrS" {
        return None;
    }
    if number(bytes, VERSION, 2)? < VERSION_WITH_PAYLOAD {
        return Some(BzImage::Opaque);
    }
    let setup = match number(bytes, SETUP_SECTS, 1)? as usize {
        0 => 4,
        sectors => sectors,
    };
    let (Some(offset), Some(length)) = (
        number(bytes, PAYLOAD_OFFSET, 4),
        number(bytes, PAYLOAD_LENGTH, 4),
    ) else {
        return Some(BzImage::Truncated);
    };
    let start = (setup + 1) * SECTOR + offset as usize;
    Some(match bytes.get(start..start + length as usize) {
        Some([]) => BzImage::Opaque,
        Some(payload) => BzImage::Payload(payload),
        None => BzImage::Truncated,
    })
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u32> {
    let field = bytes.get(at..at + length)?;
    Some(
        field
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u32::from(*byte)),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A `bzImage` around a payload.
    pub(crate) fn around(payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 3 * SECTOR];
        out[SETUP_SECTS] = 2;
        out[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        out[SIGNATURE..SIGNATURE + 4].copy_from_slice(b"HdrS");
        out[VERSION..VERSION + 2].copy_from_slice(&0x20f_u16.to_le_bytes());
        out[PAYLOAD_OFFSET] = 16;
        let length = u32::try_from(payload.len()).unwrap();
        out[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        out.extend([0x90; 16]);
        out.extend(payload);
        out.extend([0; 100]);
        out
    }

    #[test]
    fn the_payload_is_where_the_header_says() {
        let image = around(b"payload");
        assert_eq!(parse(&image), Some(BzImage::Payload(b"payload")));
        assert_eq!(parse(&image[..3 * SECTOR + 20]), Some(BzImage::Truncated));
        assert_eq!(parse(&image[..0x248]), Some(BzImage::Truncated));
        assert_eq!(parse(&image[..0x200]), None);
        let mut old = image.clone();
        old[VERSION] = 7;
        assert_eq!(parse(&old), Some(BzImage::Opaque));
        let mut beyond = image;
        beyond[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 8].fill(0xff);
        assert_eq!(parse(&beyond), Some(BzImage::Truncated));
    }
}
