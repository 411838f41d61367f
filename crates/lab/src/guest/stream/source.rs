//! Where a stream's bytes come from.

use crate::error::LabError;
use futures_util::future::BoxFuture;
use provium_guest::FileChanges;

/// A future of a [`ByteSource`].
pub(crate) type ReadFuture<'a> = BoxFuture<'a, Result<Option<Vec<u8>>, LabError>>;

/// Where a stream's bytes come from. A stream reads its source only when it is read itself: a stream that is
/// not read delays its own source and nothing else.
pub(crate) trait ByteSource: Send {
    /// The next bytes, or `None` at the end. Dropping the future loses nothing.
    fn read(&mut self) -> ReadFuture<'_>;

    /// What happens to the file that it reads, if it reads one.
    fn changes(&self) -> Option<FileChanges> {
        None
    }
}
