//! Which of a file's tests are run.

use super::{Meta, TestDeclaration};
use crate::binding::options::hint;
use regex::Regex;

/// What the user asked for. Nothing asked: every test that is not slow.
#[derive(Debug, Clone, Default)]
pub struct TestSelection {
    /// The name matches.
    pub name: Option<Regex>,
    /// The name is one of these; empty: any.
    pub exact: Vec<String>,
    /// The test's declaration or body is on one of these lines; empty: any.
    pub lines: Vec<u32>,
    /// It has one of these tags; empty: any.
    pub any_tags: Vec<String>,
    /// It has none of these tags.
    pub no_tags: Vec<String>,
    /// Its meta matches: for every key here, one of the values given with it.
    pub tag_meta: Vec<(String, String)>,
    /// Its meta matches none of these.
    pub no_tag_meta: Vec<(String, String)>,
    /// Slow tests are run, too.
    pub include_slow: bool,
}

/// Whether a test runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// It is run.
    Run,
    /// It is reported as skipped, with the reason.
    Skip(String),
    /// It was not asked for and is not reported.
    Leave,
}

impl TestSelection {
    /// Whether it leaves no test out, slow ones excepted.
    pub fn takes_all(&self) -> bool {
        self.name.is_none()
            && self.exact.is_empty()
            && self.lines.is_empty()
            && self.any_tags.is_empty()
            && self.no_tags.is_empty()
            && self.tag_meta.is_empty()
            && self.no_tag_meta.is_empty()
    }

    /// Whether `test` runs.
    pub(crate) fn choose(&self, test: &TestDeclaration) -> Choice {
        if !self.asks_for(test) {
            return Choice::Leave;
        }
        if let Some(reason) = &test.meta.skip {
            return Choice::Skip(reason.clone());
        }
        let named = !self.exact.is_empty() || !self.lines.is_empty();
        if test.meta.slow && !self.include_slow && !named {
            return Choice::Skip("slow; --include-slow runs it".to_owned());
        }
        Choice::Run
    }

    /// Whether `test` is among those asked for.
    pub(crate) fn asks_for(&self, test: &TestDeclaration) -> bool {
        let tagged = |tags: &[String]| test.meta.tags.iter().any(|tag| tags.contains(tag));
        self.name
            .as_ref()
            .is_none_or(|name| name.is_match(&test.name))
            && self.is_named(test)
            && (self.any_tags.is_empty() || tagged(&self.any_tags))
            && !tagged(&self.no_tags)
            && self.meta_matches(&test.meta)
            && !self
                .no_tag_meta
                .iter()
                .any(|(key, value)| test.meta.texts(key).contains(value))
    }

    /// What was asked for by name or line and is none of `tests`, in words.
    pub(crate) fn missed(&self, tests: &[TestDeclaration]) -> Vec<String> {
        let names = || tests.iter().map(|test| test.name.as_str());
        let by_name = self
            .exact
            .iter()
            .filter(|name| !names().any(|known| known == *name))
            .map(|name| format!("this file has no test `{name}`{}", hint(name, names())));
        let by_line = self
            .lines
            .iter()
            .filter(|line| !tests.iter().any(|test| test.lines().contains(line)))
            .map(|line| format!("no test is declared around line {line}"));
        by_name.chain(by_line).collect()
    }

    /// `file::name` and `file:LINE` add up: one of either is enough.
    fn is_named(&self, test: &TestDeclaration) -> bool {
        (self.exact.is_empty() && self.lines.is_empty())
            || self.exact.contains(&test.name)
            || self.lines.iter().any(|line| test.lines().contains(line))
    }

    fn meta_matches(&self, meta: &Meta) -> bool {
        self.tag_meta.iter().all(|(key, _)| {
            let have = meta.texts(key);
            let wanted = self.tag_meta.iter().filter(|(other, _)| other == key);
            wanted
                .map(|(_, value)| value)
                .any(|value| have.contains(value))
        })
    }
}
