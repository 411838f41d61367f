//! The copy-on-write overlay: where each block of a disk is.
//!
//! An overlay is a map of blocks and one or more files of slots; a slot holds one block. A write takes slots that
//! nothing refers to, fills them, and then changes the map. The blocks that were there before stay in their slots until
//! nothing can ask for them: a power cut, the log, a copy of the disk. So versions of a block are kept without copying
//! data, and a copy of a disk is a copy of its map.
//!
//! | part | what |
//! |---|---|
//! | [`Address`] | where one block is: in the base, nowhere (zeroes), or in a slot of a file |
//! | [`BlockMap`] | the address of each block; its pages are shared between copies |
//! | [`SlotFile`] | the data, sparse; once it is sealed it does not change |
//! | [`Slots`] | which slots of the file that is not sealed are free |

mod address;
mod map;
mod slot_file;
mod slots;

pub(crate) use address::{Address, Place, Run, Runs};
pub(crate) use map::BlockMap;
pub(crate) use slot_file::{PRIVATE, SlotFile, block_buffer, link_or_copy, read_padded, unnamed};
pub(crate) use slots::Slots;
