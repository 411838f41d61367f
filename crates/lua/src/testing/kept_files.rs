//! Writes the files that the report of a failure names: what it has cut, whole.

use super::Verdict;
use crate::engine::test_file::TestFileState;
use crate::file::job::ChunkError;

/// Writes the files that are named in what is reported of a failed test.
pub(super) fn write(state: &TestFileState, verdict: &mut Verdict) {
    let Some(output) = state.lab.environment().kept_output() else {
        return;
    };
    let consoles = verdict
        .consoles
        .iter()
        .filter_map(|console| console.file.as_ref());
    let texts = verdict.notes.iter().chain(&verdict.log).chain(consoles);
    let texts = std::iter::once(&verdict.message).chain(texts);
    let kept = output.keep_named_in(texts.map(String::as_str));
    verdict.files = kept.written;
    verdict.notes.extend(kept.problems);
}

/// Writes the files that are named in the error of a file.
pub(crate) fn write_of_error(state: &TestFileState, error: &mut ChunkError) {
    let Some(output) = state.lab.environment().kept_output() else {
        return;
    };
    let kept = output.keep_named_in([error.message.as_str()]);
    for problem in kept.problems {
        error.message.push('\n');
        error.message.push_str(&problem);
    }
}
