//! A directory with all that is in it, as a stream of records.
//!
//! ```text
//!  0        4      5
//!  ├────────┼──────┼─────────
//!  │ length │ kind │ fields…        length counts kind and fields, at most MAX_RECORD
//!
//!  Enter    name                            what follows, up to its Leave, is in this directory
//!  Leave    metadata                        of the directory that ends here
//!  File     metadata, size: u64, name       its content follows as Data
//!  Data     offset: u64, bytes              of the last File; what is not sent is a hole
//!  Symlink  time, name, target
//!  Skipped  entry type: u8, name            a device, a FIFO or a socket, which is not copied
//!  End      metadata                        of the whole tree's directory; the last record
//!
//!  metadata: permission bits: u32, time      time: seconds: i64, nanoseconds: u32
//! ```
//!
//! Integers are big-endian. Names and targets end with a zero byte, as the kernel takes them, so neither
//! side allocates memory for a record. A name is one component of a path: a tree cannot name anything
//! outside of itself. Whether a directory on the receiver's side is a symbolic link is the receiver's concern.

use crate::message::EntryType;
use std::ffi::CStr;

/// Longest record without its length, bytes.
pub const MAX_RECORD: usize = 128 * 1024;
/// Most bytes of content in a record.
pub const MAX_DATA: usize = 64 * 1024;
/// Most directories inside one another.
pub const MAX_DEPTH: usize = 256;
/// Longest name, bytes; the limit of Linux.
const MAX_NAME: usize = 255;

/// Time of the last modification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileTime {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds within that second.
    pub nanoseconds: u32,
}

/// What is kept of a file or directory besides its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits, `0o7777`.
    pub perm: u32,
    /// Time of the last modification.
    pub mtime: FileTime,
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeRecord<'a> {
    /// A directory begins.
    Enter(&'a CStr),
    /// It ends.
    Leave(Metadata),
    /// A regular file.
    File {
        /// Its name.
        name: &'a CStr,
        /// Its metadata.
        metadata: Metadata,
        /// Its length in bytes.
        size: u64,
    },
    /// Content of the last file.
    Data {
        /// Offset in the file.
        offset: u64,
        /// The bytes, at most [`MAX_DATA`].
        bytes: &'a [u8],
    },
    /// A symbolic link.
    Symlink {
        /// Its name.
        name: &'a CStr,
        /// What it contains.
        target: &'a CStr,
        /// When it was made.
        mtime: FileTime,
    },
    /// Something that is not copied.
    Skipped {
        /// Its name.
        name: &'a CStr,
        /// What it is.
        entry_type: EntryType,
    },
    /// The tree ends.
    End(Metadata),
}

/// Bytes that are not a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A record that does not decode.
    #[error("a record of the tree cannot be decoded")]
    Malformed,
    /// A name that is empty, too long, `.`, `..` or has a slash.
    #[error("a name in the tree is not a file name")]
    Name,
    /// The stream ended before the tree.
    #[error("the tree is incomplete")]
    Incomplete,
    /// Directories inside one another.
    #[error("the tree is more than {MAX_DEPTH} directories deep")]
    Depth,
}

const ENTER: u8 = 1;
const LEAVE: u8 = 2;
const FILE: u8 = 3;
const DATA: u8 = 4;
const SYMLINK: u8 = 5;
const SKIPPED: u8 = 6;
const END: u8 = 7;

/// The entry types that are skipped, by their number on the wire.
const SPECIAL: [EntryType; 5] = [
    EntryType::Unknown,
    EntryType::Fifo,
    EntryType::Socket,
    EntryType::CharDevice,
    EntryType::BlockDevice,
];

impl TreeRecord<'_> {
    /// Appends the record's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        match self {
            Self::Enter(name) => {
                out.push(ENTER);
                out.extend_from_slice(name.to_bytes_with_nul());
            }
            Self::Leave(metadata) => {
                out.push(LEAVE);
                metadata.encode(out);
            }
            Self::File {
                name,
                metadata,
                size,
            } => {
                out.push(FILE);
                metadata.encode(out);
                out.extend_from_slice(&size.to_be_bytes());
                out.extend_from_slice(name.to_bytes_with_nul());
            }
            Self::Data { offset, bytes } => {
                out.push(DATA);
                out.extend_from_slice(&offset.to_be_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Symlink {
                name,
                target,
                mtime,
            } => {
                out.push(SYMLINK);
                mtime.encode(out);
                out.extend_from_slice(name.to_bytes_with_nul());
                out.extend_from_slice(target.to_bytes_with_nul());
            }
            Self::Skipped { name, entry_type } => {
                let number = SPECIAL.iter().position(|known| known == entry_type);
                out.push(SKIPPED);
                out.push(number.and_then(|it| u8::try_from(it).ok()).unwrap_or(0));
                out.extend_from_slice(name.to_bytes_with_nul());
            }
            Self::End(metadata) => {
                out.push(END);
                metadata.encode(out);
            }
        }
        let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

impl FileTime {
    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.seconds.to_be_bytes());
        out.extend_from_slice(&self.nanoseconds.to_be_bytes());
    }
}

impl Metadata {
    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.perm.to_be_bytes());
        self.mtime.encode(out);
    }
}

/// Turns bytes into records.
#[derive(Debug, Default)]
pub struct TreeDecoder {
    buffer: Vec<u8>,
    /// How much of the buffer has been handed out.
    used: usize,
    ended: bool,
    place: TreePosition,
}

/// Where in a tree the last record was.
#[derive(Debug, Clone, Copy, Default)]
struct TreePosition {
    /// Directories that have begun and not ended.
    depth: usize,
    /// Content may follow.
    in_file: bool,
}

impl TreePosition {
    /// The place behind a record, if that may be here.
    fn after(self, record: &TreeRecord<'_>) -> Result<Self, TreeError> {
        let depth = match record {
            TreeRecord::Enter(_) if self.depth == MAX_DEPTH => return Err(TreeError::Depth),
            TreeRecord::Enter(_) => self.depth + 1,
            TreeRecord::Leave(_) => self.depth.checked_sub(1).ok_or(TreeError::Malformed)?,
            TreeRecord::End(_) if self.depth > 0 => return Err(TreeError::Malformed),
            TreeRecord::Data { .. } if !self.in_file => return Err(TreeError::Malformed),
            _ => self.depth,
        };
        let in_file = matches!(record, TreeRecord::File { .. } | TreeRecord::Data { .. });
        Ok(Self { depth, in_file })
    }
}

impl TreeDecoder {
    /// A decoder at the start of a tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next record; `None`: more bytes are needed, or the tree has ended. A directory that is left was
    /// entered, at the end all have been left, and content follows a file.
    ///
    /// # Errors
    /// When the bytes are not a tree; nothing after that has a meaning.
    pub fn next_record(&mut self) -> Result<Option<TreeRecord<'_>>, TreeError> {
        let rest = &self.buffer[self.used..];
        if self.ended {
            return if rest.is_empty() {
                Ok(None)
            } else {
                Err(TreeError::Malformed)
            };
        }
        let Some((length, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_RECORD {
            return Err(TreeError::Malformed);
        }
        let Some(record) = rest.get(..length) else {
            return Ok(None);
        };
        self.used += 4 + length;
        let record = decode(record)?;
        self.place = self.place.after(&record)?;
        self.ended = matches!(record, TreeRecord::End(_));
        Ok(Some(record))
    }

    /// Whether the whole tree has been decoded.
    pub fn is_complete(&self) -> bool {
        self.ended && self.used == self.buffer.len()
    }
}

fn decode(record: &[u8]) -> Result<TreeRecord<'_>, TreeError> {
    let (kind, rest) = record.split_first().ok_or(TreeError::Malformed)?;
    let mut fields = RecordReader(rest);
    let record = match *kind {
        ENTER => TreeRecord::Enter(fields.name()?),
        LEAVE => TreeRecord::Leave(fields.metadata()?),
        FILE => TreeRecord::File {
            metadata: fields.metadata()?,
            size: u64::from_be_bytes(fields.take()?),
            name: fields.name()?,
        },
        DATA => TreeRecord::Data {
            offset: u64::from_be_bytes(fields.take()?),
            bytes: std::mem::take(&mut fields.0),
        },
        SYMLINK => TreeRecord::Symlink {
            mtime: fields.time()?,
            name: fields.name()?,
            target: fields.text()?,
        },
        SKIPPED => {
            let [number] = fields.take()?;
            let entry_type = SPECIAL.get(usize::from(number)).copied();
            TreeRecord::Skipped {
                entry_type: entry_type.ok_or(TreeError::Malformed)?,
                name: fields.name()?,
            }
        }
        END => TreeRecord::End(fields.metadata()?),
        _ => return Err(TreeError::Malformed),
    };
    if fields.0.is_empty() {
        Ok(record)
    } else {
        Err(TreeError::Malformed)
    }
}

/// What is left of a record.
struct RecordReader<'a>(&'a [u8]);

impl<'a> RecordReader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], TreeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(TreeError::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn time(&mut self) -> Result<FileTime, TreeError> {
        let time = FileTime {
            seconds: i64::from_be_bytes(self.take()?),
            nanoseconds: u32::from_be_bytes(self.take()?),
        };
        if time.nanoseconds < 1_000_000_000 {
            Ok(time)
        } else {
            Err(TreeError::Malformed)
        }
    }

    fn metadata(&mut self) -> Result<Metadata, TreeError> {
        let perm = u32::from_be_bytes(self.take()?);
        if perm > 0o7777 {
            return Err(TreeError::Malformed);
        }
        let mtime = self.time()?;
        Ok(Metadata { perm, mtime })
    }

    fn text(&mut self) -> Result<&'a CStr, TreeError> {
        let text = CStr::from_bytes_until_nul(self.0).map_err(|_| TreeError::Malformed)?;
        self.0 = &self.0[text.count_bytes() + 1..];
        Ok(text)
    }

    fn name(&mut self) -> Result<&'a CStr, TreeError> {
        let name = self.text()?;
        let bytes = name.to_bytes();
        let is_name = !bytes.is_empty()
            && bytes.len() <= MAX_NAME
            && bytes != b"."
            && bytes != b".."
            && !bytes.contains(&b'/');
        if is_name {
            Ok(name)
        } else {
            Err(TreeError::Name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: Metadata = Metadata {
        perm: 0o1755,
        mtime: FileTime {
            seconds: -2,
            nanoseconds: 3,
        },
    };

    fn records() -> Vec<TreeRecord<'static>> {
        vec![
            TreeRecord::Enter(c"d\xff"),
            TreeRecord::File {
                name: c"f",
                metadata: METADATA,
                size: 1 << 40,
            },
            TreeRecord::Data {
                offset: 4096,
                bytes: b"\0abc",
            },
            TreeRecord::Symlink {
                name: c"l",
                target: c"../..",
                mtime: METADATA.mtime,
            },
            TreeRecord::Skipped {
                name: c"s",
                entry_type: EntryType::Socket,
            },
            TreeRecord::Leave(METADATA),
            TreeRecord::End(METADATA),
        ]
    }

    fn encoded(records: &[TreeRecord<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        for record in records {
            record.encode(&mut out);
        }
        out
    }

    #[test]
    fn the_bytes_of_a_tree() {
        let metadata = b"\0\0\x03\xed\xff\xff\xff\xff\xff\xff\xff\xfe\0\0\0\x03";
        let expected = [
            b"\0\0\0\x04\x01d\xff\0".as_slice(),
            b"\0\0\0\x1b\x03",
            metadata,
            b"\0\0\x01\0\0\0\0\0f\0",
            b"\0\0\0\x0d\x04\0\0\0\0\0\0\x10\0\0abc",
            b"\0\0\0\x15\x05\xff\xff\xff\xff\xff\xff\xff\xfe\0\0\0\x03l\0../..\0",
            b"\0\0\0\x04\x06\x02s\0",
            b"\0\0\0\x11\x02",
            metadata,
            b"\0\0\0\x11\x07",
            metadata,
        ];
        assert_eq!(
            encoded(&records()).escape_ascii().to_string(),
            expected.concat().escape_ascii().to_string()
        );
    }

    #[test]
    fn records_are_the_same_however_the_stream_is_cut() {
        let bytes = encoded(&records());
        for size in [1, 2, 3, 7, 1000] {
            let mut decoder = TreeDecoder::new();
            let mut expected = records().into_iter();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(record) = decoder.next_record().unwrap() {
                    assert_eq!(Some(record), expected.next());
                }
            }
            assert_eq!(expected.next(), None);
            assert!(decoder.is_complete());
        }
        let mut decoder = TreeDecoder::new();
        decoder.push(&bytes[..bytes.len() - 1]);
        while decoder.next_record().unwrap().is_some() {}
        assert!(!decoder.is_complete());
    }

    fn error_of(bytes: &[u8]) -> Option<TreeError> {
        let mut decoder = TreeDecoder::new();
        decoder.push(bytes);
        loop {
            match decoder.next_record() {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    }

    #[test]
    fn names_that_lead_out_of_the_tree_are_refused() {
        let long: Vec<u8> = [vec![b'x'; 256], vec![0]].concat();
        for name in [
            c"..".to_bytes_with_nul(),
            b".\0",
            b"\0",
            b"a/b\0",
            b"/etc\0",
            &long,
        ] {
            let name = CStr::from_bytes_with_nul(name).unwrap();
            let record = TreeRecord::Enter(name);
            assert_eq!(
                error_of(&encoded(&[record])),
                Some(TreeError::Name),
                "{name:?}"
            );
        }
    }

    #[test]
    fn records_in_another_order_are_refused() {
        let data = TreeRecord::Data {
            offset: 0,
            bytes: b"x",
        };
        let link = TreeRecord::Symlink {
            name: c"l",
            target: c"t",
            mtime: METADATA.mtime,
        };
        let file = TreeRecord::File {
            name: c"f",
            metadata: METADATA,
            size: 1,
        };
        for records in [
            &[TreeRecord::Leave(METADATA)][..],
            &[TreeRecord::Enter(c"d"), TreeRecord::End(METADATA)],
            &[data],
            &[file, data, link, data],
            &[file, TreeRecord::Enter(c"d"), data],
        ] {
            let error = error_of(&encoded(records));
            assert_eq!(error, Some(TreeError::Malformed), "{records:?}");
        }
        let deep = vec![TreeRecord::Enter(c"d"); MAX_DEPTH];
        assert_eq!(error_of(&encoded(&deep)), None);
        let deeper = [deep, vec![TreeRecord::Enter(c"d")]].concat();
        assert_eq!(error_of(&encoded(&deeper)), Some(TreeError::Depth));
    }

    #[test]
    fn what_is_not_a_record_is_refused() {
        for bytes in [
            b"\xff\xff\xff\xff".as_slice(),
            b"\0\0\0\0",
            b"\0\0\0\x01\x63",
            // Without its zero byte, with something behind it, with a bad type.
            b"\0\0\0\x02\x01d",
            b"\0\0\0\x04\x01d\0x",
            b"\0\0\0\x04\x06\x09s\0",
            b"\0\0\0\x11\x02\0\0\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0",
            b"\0\0\0\x11\x02\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff",
        ] {
            assert_eq!(error_of(bytes), Some(TreeError::Malformed), "{bytes:?}");
        }
        let mut after_end = encoded(&records());
        after_end.push(0);
        assert_eq!(error_of(&after_end), Some(TreeError::Malformed));
    }
}
