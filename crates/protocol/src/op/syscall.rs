//! A raw syscall and the memory it uses.

use serde::{Deserialize, Serialize};

/// A raw syscall. One in the background sends [`Event::Entered`](crate::Event) when it is about to be
/// made.
///
/// The buffers are placed in the raw process's memory first. Then `pointers` and `nested` say where
/// their addresses are written. Then the raw process's only thread makes the call, or with
/// `background` a further thread, which starts with the identity of the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syscall {
    /// Number, x86-64.
    pub nr: i64,
    /// All six arguments.
    pub args: [i64; 6],
    /// Memory that the call may read and write.
    pub buffers: Vec<Buffer>,
    /// `pointers[i]` is the argument, 0 to 5, that is set to the address of `buffers[i]`; -1: none.
    pub pointers: Vec<i8>,
    /// Pointers inside buffers.
    pub nested: Vec<Link>,
    /// Make the call on a further thread.
    pub background: bool,
}

/// Memory for a raw syscall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer {
    /// Its first bytes; those up to `len` are zero.
    #[serde(with = "serde_bytes")]
    pub content: Vec<u8>,
    /// Length in bytes.
    pub len: u64,
    /// Alignment in bytes, a power of two, 16 to 1 MiB.
    pub align: u32,
    /// Whether the reply contains what it holds after the call.
    pub returned: bool,
}

/// A pointer inside a buffer: the 8 bytes at `offset` of `parent` are set to the address of `child`
/// plus `child_offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Index (from 0) of the buffer that holds the pointer.
    pub parent: u32,
    /// Index (from 0) of the buffer pointed to.
    pub child: u32,
    /// Offset in the parent.
    pub offset: u64,
    /// Offset in the child.
    pub child_offset: u64,
}
