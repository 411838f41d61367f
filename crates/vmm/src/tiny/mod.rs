//! A guest of a few hundred bytes, to prove that a machine runs guests at all.
//!
//! It is started as Linux is, through PVH: an ELF file with a note that names a 32-bit entry. It goes
//! to long mode, does a given amount of work that resembles a boot (arithmetic on memory, TLB flushes,
//! a UART polled), and prints the result. Its source is `guest.S`, with the console's commands.
//!
//! The work's sum depends on every round, so an accelerator that computes wrongly is found out; see
//! [`finished`].

mod image;

pub use image::{STARTED, elf, finished};
