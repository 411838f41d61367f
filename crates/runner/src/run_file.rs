//! What the dispatcher asks of a backend that runs test files.

use crate::discover::TestFile;
use crate::plan::{FileEnd, FileTask};

/// Runs files.
pub trait RunFile: Send + Sync {
    /// Runs a file to its end on the calling thread.
    fn run(&self, task: FileTask) -> FileEnd;

    /// A file's thread does not come back: ends what the file has outside of it.
    fn abandon(&self, file: &TestFile) {
        let _ = file;
    }

    /// The names of the selected tests that a file declares, as far as they are known without running
    /// them. May take as long as the file's top level does.
    fn declared(&self, file: &TestFile) -> Vec<String> {
        let _ = file;
        Vec::new()
    }
}

impl<F: Fn(FileTask) -> FileEnd + Send + Sync> RunFile for F {
    fn run(&self, task: FileTask) -> FileEnd {
        self(task)
    }
}
