//! Descriptors of a raw process, and positions in a file.

use serde::{Deserialize, Serialize};

/// A descriptor of a raw process. A raw process that ends takes its descriptors with it. The next one
/// has another generation, so a number that is used again is not mistaken for the old file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Descriptor {
    /// The number.
    pub number: i32,
    /// Generation of the raw process that has it; 0: of the current one.
    pub generation: u64,
}

impl From<i32> for Descriptor {
    /// A number of the current raw process.
    fn from(number: i32) -> Self {
        Self {
            number,
            generation: 0,
        }
    }
}

/// What the offset of [`Op::SeekFd`](crate::Op) is relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whence {
    /// The file's start.
    Set,
    /// The current offset.
    Current,
    /// The file's end.
    End,
}

/// Where [`Op::TailFile`](crate::Op) begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TailStart {
    /// At the file's start.
    Beginning,
    /// At the file's end.
    End,
    /// At this offset.
    At(u64),
    /// This many bytes before the end, or at the start of a file that is shorter.
    BeforeEnd(u64),
}
