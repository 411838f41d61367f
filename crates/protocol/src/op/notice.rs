//! What a stream of a file reports beside its bytes.
//!
//! [`Op::TailFile`](crate::Op), [`Op::TailFd`](crate::Op) and, if asked, [`Op::StreamFd`](crate::Op) send notices
//! on the error stream of their call, each [`StreamNotice::SIZE`] bytes long. A notice is sent before the bytes
//! that follow what it reports.

/// A notice of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamNotice {
    /// What has happened.
    pub kind: NoticeKind,
    /// How many bytes of the stream precede it.
    pub at: u64,
}

/// What a [`StreamNotice`] reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// The file is open, and it is decided where the stream begins. Always the first notice.
    Opened,
    /// The file has become shorter. What it contains now follows, from its start.
    Truncated,
    /// What the stream has read of the file is not in it any more, although it is not shorter. What it contains
    /// now follows, from its start.
    Rewritten,
    /// The path leads to another file, the content of which follows.
    Replaced,
    /// The path leads to no file: it was removed or renamed. The old file is still followed.
    Removed,
}

impl StreamNotice {
    /// Length of an encoded notice, bytes.
    pub const SIZE: usize = 9;

    /// Its kind, and its position with the lowest byte first.
    pub fn encode(self) -> [u8; Self::SIZE] {
        let kind = match self.kind {
            NoticeKind::Opened => 0,
            NoticeKind::Truncated => 1,
            NoticeKind::Rewritten => 2,
            NoticeKind::Replaced => 3,
            NoticeKind::Removed => 4,
        };
        let mut bytes = [kind; Self::SIZE];
        bytes[1..].copy_from_slice(&self.at.to_le_bytes());
        bytes
    }

    /// The notice in these bytes; `None` if its kind is unknown.
    pub fn decode(bytes: [u8; Self::SIZE]) -> Option<Self> {
        let [kind, at @ ..] = bytes;
        let kind = match kind {
            0 => NoticeKind::Opened,
            1 => NoticeKind::Truncated,
            2 => NoticeKind::Rewritten,
            3 => NoticeKind::Replaced,
            4 => NoticeKind::Removed,
            _ => return None,
        };
        let at = u64::from_le_bytes(at);
        Some(Self { kind, at })
    }
}
