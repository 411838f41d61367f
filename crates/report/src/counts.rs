//! How many tests ended how, and the words for it.

use crate::styles::Styles;
use provium_events::TestStatus;

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    /// Of those that passed.
    pub(crate) flaky: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    pub(crate) interrupted: u64,
    pub(crate) not_run: u64,
}

impl Counts {
    /// Counts a test that ended so.
    pub(crate) fn add(&mut self, status: TestStatus) {
        let count = match status {
            TestStatus::Passed => &mut self.passed,
            TestStatus::Failed => &mut self.failed,
            TestStatus::Skipped => &mut self.skipped,
            TestStatus::Interrupted => &mut self.interrupted,
            TestStatus::NotRun => &mut self.not_run,
        };
        *count += 1;
    }

    /// Adds those of another run.
    pub(crate) fn add_all(&mut self, other: Self) {
        self.passed += other.passed;
        self.flaky += other.flaky;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.interrupted += other.interrupted;
        self.not_run += other.not_run;
    }

    /// `3 passed, 1 failed`: the kinds of which there are some.
    pub(crate) fn words(self, styles: Styles) -> String {
        let mut parts = Vec::new();
        if self.passed > 0 {
            let flaky = match self.flaky {
                0 => String::new(),
                flaky => format!(" ({})", styles.warning(&format!("{flaky} flaky"))),
            };
            parts.push(format!("{} passed{flaky}", self.passed));
        }
        if self.failed > 0 {
            parts.push(styles.failure(&format!("{} failed", self.failed)));
        }
        if self.skipped > 0 {
            parts.push(format!("{} skipped", self.skipped));
        }
        if self.interrupted > 0 {
            parts.push(styles.warning(&format!("{} interrupted", self.interrupted)));
        }
        if self.not_run > 0 {
            parts.push(styles.warning(&format!("{} not run", self.not_run)));
        }
        if parts.is_empty() {
            return "no tests".to_owned();
        }
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_there_is_is_named() {
        let words = |counts: Counts| counts.words(Styles::new(false));
        assert_eq!(words(Counts::default()), "no tests");
        let mut counts = Counts::default();
        counts.add(TestStatus::Passed);
        assert_eq!(words(counts), "1 passed");
        let flaky = Counts { flaky: 1, ..counts };
        assert_eq!(words(flaky), "1 passed (1 flaky)");
        for status in [
            TestStatus::NotRun,
            TestStatus::Interrupted,
            TestStatus::Skipped,
            TestStatus::Failed,
        ] {
            counts.add(status);
        }
        let all = "1 passed, 1 failed, 1 skipped, 1 interrupted, 1 not run";
        assert_eq!(words(counts), all);
    }
}
