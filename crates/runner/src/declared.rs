//! Looks up the tests that files declare, without holding the dispatcher up.

use crate::crash;
use crate::discover::TestFile;
use crate::run_file::RunFile;
use crate::thread::file_thread;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Time for all files of a run together: what is looked up is for the report only, and the user waits.
const LIMIT: Duration = Duration::from_secs(2);

/// Lists files as long as there is time.
pub(crate) struct DeclaredTests {
    run_file: Arc<dyn RunFile>,
    spent: Duration,
}

impl DeclaredTests {
    pub(crate) fn new(run_file: Arc<dyn RunFile>) -> Self {
        Self {
            run_file,
            spent: Duration::ZERO,
        }
    }

    /// The selected tests of `file`; none if they cannot be listed in time.
    pub(crate) fn of(&mut self, file: &TestFile) -> Vec<String> {
        let Some(left) = LIMIT.checked_sub(self.spent) else {
            return Vec::new();
        };
        let started = Instant::now();
        let (sender, receiver) = channel();
        let (run_file, file) = (Arc::clone(&self.run_file), file.clone());
        // The thread of a file that cannot be listed to its end ends with the process.
        let listing = file_thread(move || {
            let names = crash::catch(|| run_file.declared(&file));
            let _ = sender.send(names.unwrap_or_default());
        });
        let names = listing.ok().and_then(|_| receiver.recv_timeout(left).ok());
        self.spent += started.elapsed();
        names.unwrap_or_default()
    }
}
