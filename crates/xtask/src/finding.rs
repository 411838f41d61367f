//! What a rule says about one place: where, what, why, and what to do.

use std::fmt;

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// From the root of the tree, with `/`.
    pub(crate) path: String,
    /// Counted from 1.
    pub(crate) line: usize,
    /// What was found.
    pub(crate) what: String,
    /// Why the rule is there.
    pub(crate) why: &'static str,
    /// What to do about it.
    pub(crate) fix: String,
}

impl Finding {
    /// A finding; `fix` is an instruction.
    pub(crate) fn new(
        path: &str,
        line: usize,
        what: impl Into<String>,
        why: &'static str,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what: what.into(),
            why,
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}: {}; {}",
            self.path, self.line, self.what, self.why, self.fix
        )
    }
}

/// Findings as the tests of rules compare them: `line: what`.
#[cfg(test)]
pub(crate) fn lines(findings: impl IntoIterator<Item = Finding>) -> Vec<String> {
    let findings = findings.into_iter();
    findings
        .map(|finding| format!("{}: {}", finding.line, finding.what))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_place_what_why_and_remedy() {
        let finding = Finding::new(
            "a/b.rs",
            3,
            "a print",
            "only the executable prints",
            "return it",
        );
        assert_eq!(
            finding.to_string(),
            "a/b.rs:3: a print: only the executable prints; return it"
        );
    }
}
