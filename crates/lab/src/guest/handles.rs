//! The objects in a guest of which a test has handles.

use crate::guest::file::Files;
use crate::guest::process::Processes;

/// The processes and files of a VM, those of its workers among them, or of a worker alone. Scopes own them;
/// these are for a restore, and for the end of a worker.
#[derive(Debug, Default)]
pub(crate) struct GuestHandles {
    pub(crate) processes: Processes,
    pub(crate) files: Files,
}
