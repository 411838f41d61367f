//! The interface between the NBD service and a disk.

use crate::command::{Admission, Command};
use rustix::io::Errno;

/// What a prepared flush covers: the commands up to this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FlushPoint(pub(crate) u64);

/// A disk as the service sees it. Calls come from several threads, and commands in flight at the same time may be
/// carried out in any order. Offsets and lengths are within the size: the service has checked them.
pub trait Export: Send + Sync + 'static {
    /// Its size, bytes; a multiple of 512.
    fn size(&self) -> u64;

    /// Whether writes are refused.
    fn is_read_only(&self) -> bool;

    /// Decides what happens to a command: once for each, in the order of their arrival.
    fn admit(&self, command: Command) -> Admission;

    /// Fills the buffer, which is as long as the command.
    ///
    /// # Errors
    /// What the guest gets.
    fn read(&self, admission: &Admission, buffer: &mut [u8]) -> Result<(), Errno>;

    /// Writes the data, which is as long as the command.
    ///
    /// # Errors
    /// What the guest gets.
    fn write(&self, admission: &Admission, data: &[u8]) -> Result<(), Errno>;

    /// Carries out a command without data: a flush, a discard, a write of zeroes.
    ///
    /// # Errors
    /// What the guest gets.
    fn carry_out(&self, admission: &Admission) -> Result<(), Errno>;

    /// Does what can fail of a flush that may not be the guest's, so that the flush can be answered before that is
    /// known. Nothing becomes durable, and faults do not count it. [`complete_flush`](Self::complete_flush) follows if
    /// it was the guest's.
    ///
    /// # Errors
    /// What the guest gets if it was its flush.
    fn prepare_flush(&self, command: Command) -> Result<FlushPoint, Errno>;

    /// The prepared flush was the guest's, and is admitted and counted as such: makes durable what had completed when
    /// it was prepared. Its answer was `prepared`, and the guest has it.
    fn complete_flush(&self, command: Command, prepared: Result<FlushPoint, Errno>);
}
