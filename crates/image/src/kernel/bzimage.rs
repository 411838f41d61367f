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
/// What the kernel needs at its address while it unpacks itself.
const INIT_SIZE: usize = 0x260;
/// The version that has that field.
const VERSION_WITH_INIT_SIZE: u32 = 0x20a;
/// Where the text of the kernel's version is, from the end of the boot sector.
const KERNEL_VERSION: usize = 0x20e;
/// The version that has the payload's fields.
const VERSION_WITH_PAYLOAD: u32 = 0x208;

const SECTOR: usize = 512;

/// Longest release, bytes: `uname(2)` has room for 64.
const LONGEST_RELEASE: usize = 65;

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

/// `None` if `bytes` are not a `bzImage`.
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

/// The kernel's release, as `uname -r` gives it, where its file says so: a `bzImage` in its header, a
/// `vmlinux` in the banner that it prints.
pub(crate) fn release(bytes: &[u8]) -> Option<String> {
    let text = if bytes.get(SIGNATURE..SIGNATURE + 4)? == b"HdrS" {
        let at = number(bytes, KERNEL_VERSION, 2)? as usize;
        bytes.get(at + SECTOR..)?
    } else {
        const BANNER: &[u8] = b"Linux version ";
        let at = bytes
            .windows(BANNER.len())
            .position(|window| window == BANNER)?;
        &bytes[at + BANNER.len()..]
    };
    let text = text.get(..text.len().min(LONGEST_RELEASE))?;
    let end = text
        .iter()
        .position(|byte| byte.is_ascii_whitespace() || *byte == 0)?;
    let release = std::str::from_utf8(&text[..end]).ok()?;
    // It becomes part of a path.
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-~".contains(c);
    (release.starts_with(|c: char| c.is_ascii_digit()) && release.chars().all(plain))
        .then(|| release.to_owned())
}

/// What a `bzImage` takes in memory while it unpacks itself, bytes; `None` where its file does not say.
pub(crate) fn size_in_memory(bytes: &[u8]) -> Option<u64> {
    if bytes.get(SIGNATURE..SIGNATURE + 4)? != b"HdrS"
        || number(bytes, VERSION, 2)? < VERSION_WITH_INIT_SIZE
    {
        return None;
    }
    number(bytes, INIT_SIZE, 4).map(u64::from)
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

    #[test]
    fn the_release_is_the_first_word_and_never_a_path() {
        let with = |text: &[u8]| {
            let mut image = around(&[]);
            image[KERNEL_VERSION..KERNEL_VERSION + 2].copy_from_slice(&0x300_u16.to_le_bytes());
            image[0x500..0x500 + text.len()].copy_from_slice(text);
            release(&image)
        };
        assert_eq!(
            with(b"6.1.0-9-cloud-amd64 (x@y) #1\0").as_deref(),
            Some("6.1.0-9-cloud-amd64")
        );
        assert_eq!(with(b"6/../../x \0"), None);
        assert_eq!(with(&[b'6'; 70]), None);
        let vmlinux = [&[0; 0x300][..], b"Linux version 6.12.1 (x)\0"].concat();
        assert_eq!(release(&vmlinux).as_deref(), Some("6.12.1"));
        assert_eq!(release(b"x"), None);
    }
}
