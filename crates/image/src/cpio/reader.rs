//! Reading what is in archives, without their contents.

use super::format::{ALIGNMENT, HEADER_LEN, MAGIC, MAGIC_CRC, TRAILER, file_type};
use std::io::{self, Read, Seek, SeekFrom};

/// Longest name or link target of an entry, bytes: the kernel's PATH_MAX.
const LONGEST_NAME: u32 = 4096;

/// Why bytes are not an archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CpioError {
    #[error("it does not start like a cpio archive of the `newc` kind")]
    Magic,
    #[error("an entry's header is damaged")]
    Header,
    #[error("it ends in the middle of an entry")]
    Truncated,
    #[error("it cannot be read")]
    Io(#[source] io::Error),
}

impl From<io::Error> for CpioError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Truncated
        } else {
            Self::Io(error)
        }
    }
}

/// An entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Its path.
    pub(crate) name: Vec<u8>,
    /// Type and permissions.
    pub(crate) mode: u32,
    /// Where a symlink leads; else empty.
    pub(crate) target: Vec<u8>,
}

/// The length of the archive at the start of `bytes`, with its trailer.
pub(crate) fn archive_len(bytes: &[u8]) -> Result<usize, CpioError> {
    let mut input = io::Cursor::new(bytes);
    while next(&mut input)?.is_some() {}
    let length = usize::try_from(input.position()).map_err(|_| CpioError::Truncated)?;
    // The padding behind the last trailer may be missing.
    Ok(length.min(bytes.len()))
}

/// Hands out every entry of all archives in `input`, which may have zeros between and behind them.
pub(crate) fn read_entries(
    input: &mut (impl Read + Seek),
    mut entry: impl FnMut(Header),
) -> Result<(), CpioError> {
    let end = input.seek(SeekFrom::End(0))?;
    let mut position = 0;
    input.seek(SeekFrom::Start(0))?;
    while position < end {
        let mut word = [0; 4];
        let wanted = usize::try_from(end - position).map_or(4, |left| left.min(4));
        input.read_exact(&mut word[..wanted])?;
        if word == [0; 4] {
            position += 4;
            continue;
        }
        input.seek(SeekFrom::Start(position))?;
        while let Some(header) = next(input)? {
            entry(header);
        }
        position = input.stream_position()?;
    }
    Ok(())
}

/// The next entry, `None` at the trailer; `input` is behind it then.
fn next(input: &mut (impl Read + Seek)) -> Result<Option<Header>, CpioError> {
    let mut header = [0; HEADER_LEN];
    input.read_exact(&mut header[..6])?;
    if header[..6] != *MAGIC && header[..6] != *MAGIC_CRC {
        return Err(CpioError::Magic);
    }
    input.read_exact(&mut header[6..])?;
    let number = |index: usize| -> Result<u32, CpioError> {
        let digits = header
            .get(6 + index * 8..14 + index * 8)
            .ok_or(CpioError::Header)?;
        let digits = std::str::from_utf8(digits).map_err(|_| CpioError::Header)?;
        u32::from_str_radix(digits, 16).map_err(|_| CpioError::Header)
    };
    let (mode, size, name_size) = (number(1)?, number(6)?, number(11)?);
    if name_size == 0 || name_size > LONGEST_NAME {
        return Err(CpioError::Header);
    }
    let mut name = vec![0; name_size as usize];
    input.read_exact(&mut name)?;
    if name.pop() != Some(0) {
        return Err(CpioError::Header);
    }
    align(input)?;
    if name == TRAILER {
        return Ok(None);
    }
    let mut target = Vec::new();
    if mode & file_type::MASK == file_type::SYMLINK {
        if size > LONGEST_NAME {
            return Err(CpioError::Header);
        }
        target.resize(size as usize, 0);
        input.read_exact(&mut target)?;
    } else if size > 0 {
        // To the last byte, so that a content that ends early is noticed.
        input.seek(SeekFrom::Current(i64::from(size) - 1))?;
        input.read_exact(&mut [0])?;
    }
    align(input)?;
    Ok(Some(Header { name, mode, target }))
}

fn align(input: &mut impl Seek) -> Result<(), CpioError> {
    let position = input.stream_position()?;
    let missing = position.next_multiple_of(ALIGNMENT) - position;
    if missing > 0 {
        input.seek(SeekFrom::Start(position + missing))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Writer;
    use super::*;
    use crate::node::Node;
    use proptest::prelude::*;

    fn two_archives() -> Vec<u8> {
        let mut first = Writer::new(Vec::new());
        first.add(b"bin", &Node::symlink("usr/bin")).unwrap();
        first.add(b"f", &Node::file(0o644, *b"content")).unwrap();
        let mut bytes = first.finish().unwrap();
        bytes.extend([0; 8]);
        let mut second = Writer::new(bytes);
        second.add(b"d", &Node::directory(0o700)).unwrap();
        second.finish().unwrap()
    }

    #[test]
    fn all_archives_are_read() {
        let mut names = Vec::new();
        let bytes = two_archives();
        read_entries(&mut io::Cursor::new(&bytes), |entry| {
            names.push((
                String::from_utf8(entry.name).unwrap(),
                entry.mode,
                entry.target,
            ));
        })
        .unwrap();
        assert_eq!(
            names,
            [
                ("bin".to_owned(), 0o120_777, b"usr/bin".to_vec()),
                ("f".to_owned(), 0o100_644, Vec::new()),
                ("d".to_owned(), 0o040_700, Vec::new()),
            ]
        );
    }

    #[test]
    fn truncated_and_other_files_are_refused() {
        let bytes = two_archives();
        let entries = |bytes: &[u8]| read_entries(&mut io::Cursor::new(bytes), |_| ());
        assert!(matches!(entries(&bytes[..230]), Err(CpioError::Truncated)));
        assert!(matches!(entries(b"not an archive"), Err(CpioError::Magic)));
        assert!(archive_len(&bytes[..130]).is_err());
        let len = archive_len(&bytes).unwrap();
        assert!(bytes[..len].ends_with(b"TRAILER!!!\0\0\0\0") && len < 512);
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0..500_usize, byte: u8) {
            let mut bytes = two_archives();
            bytes[at] = byte;
            let _ = read_entries(&mut io::Cursor::new(&bytes), |_| ());
            let _ = archive_len(&bytes);
        }
    }
}
