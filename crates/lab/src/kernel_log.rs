//! Reports of a guest's kernel about itself on a VM's console.

use crate::error::LabError;
use crate::guest::console::Console;
use provium_vmm::kernel_log::Scanner;

pub use provium_vmm::kernel_log::{Report, ReportKind};

/// How much of a console is looked at at a time, bytes.
const WINDOW: usize = 1 << 20;

impl Console {
    /// Takes all that the guest has printed so far into the log.
    pub fn settle(&self) {
        self.log().settle();
    }

    /// The kernel's reports from position `from` on, and where the next call starts. A last line
    /// that has no end yet is left for then, unless `to_the_end` says that nothing more will come.
    ///
    /// # Errors
    /// When the console's log cannot be read, or lacks bytes that came.
    pub fn reports(&self, from: u64, to_the_end: bool) -> Result<(Vec<Report>, u64), LabError> {
        let complete = self.log().check_complete();
        complete.map_err(|error| LabError::host(self.subject(), "read_log()", error))?;
        // A log that was put back is shorter than it was.
        let end = self.mark();
        let mut at = from.min(end);
        let mut scanner = Scanner::default();
        // No further, whatever is printed meanwhile.
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(WINDOW);
            let window = self.log().read_at_most(at, left.min(WINDOW));
            let window =
                window.map_err(|error| LabError::host(self.subject(), "read_log()", error))?;
            if window.is_empty() {
                break;
            }
            at += window.len() as u64;
            scanner.take(&window);
        }
        if to_the_end {
            scanner.end();
        }
        let unread = scanner.unread();
        Ok((scanner.into_reports(), at - unread))
    }
}
