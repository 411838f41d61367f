//! How readily the kernel kills a process when memory runs out.

use crate::roots;
use crate::sys::file;

fn set_score(score: &str) {
    // An ordinary user may not set it; then it stays as it is.
    let _ = file::write_at(roots::PROC, "self/oom_score_adj", score.as_bytes());
}

/// Exempts this process. Processes that it forks inherit this.
pub(crate) fn protect() {
    set_score("-1000");
}

/// For a forked process whose size depends on the test.
pub(crate) fn reset_score() {
    set_score("0");
}
