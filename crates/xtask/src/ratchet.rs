//! Lists of tolerated findings that may only get shorter.
//!
//! A rule that an old tree breaks in many places is introduced with a list of how often each file
//! breaks it today. A file may then break it less often, a new file not at all. A file with fewer
//! findings than its entry is a note, so that two branches that both clean up do not conflict;
//! `cargo xtask tidy --update` lowers the entries. It never raises one, but an entry of a file that
//! was deleted moves to a file that has none, so that files can be renamed. `--accept` writes down
//! what there is, also where it is more: for the merge of a branch that is older than the rule.

use crate::finding::Finding;
use crate::tree::Tree;
use std::collections::BTreeMap;

/// One list: a file of the tree, with a count and a path per line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List {
    /// Where it is in the tree.
    pub(crate) path: &'static str,
    /// What it counts, in the plural.
    pub(crate) unit: &'static str,
}

/// What a rule with a list has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What the list does not tolerate.
    pub(crate) findings: Vec<Finding>,
    /// What deserves a mention and is not a failure.
    pub(crate) notes: Vec<String>,
    /// Lists with a new text that tolerates less, for `--update`.
    pub(crate) updates: Vec<(&'static str, String)>,
    /// Lists with a new text that tolerates what was found, for `--accept`; only where that is more.
    pub(crate) accepts: Vec<(&'static str, String)>,
}

impl Outcome {
    /// Adds what another list has found.
    pub(crate) fn merge(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.notes.extend(other.notes);
        self.updates.extend(other.updates);
        self.accepts.extend(other.accepts);
    }
}

const WHY: &str = "the list of old ones may only get shorter";

type Counts = BTreeMap<String, usize>;

/// Compares what a rule found with what its list tolerates, by path.
pub(crate) fn compare(list: List, tree: &Tree, found: Vec<Finding>) -> Outcome {
    let mut by_path: BTreeMap<String, (usize, Vec<Finding>)> = BTreeMap::new();
    for finding in found {
        let (count, findings) = by_path.entry(finding.path.clone()).or_default();
        *count += 1;
        findings.push(finding);
    }
    compare_counts(list, tree, by_path)
}

/// Compares counts, each with the findings that are shown where it is not tolerated. An entry is a
/// path, or a path and a name in that file behind a blank.
pub(crate) fn compare_counts(
    list: List,
    tree: &Tree,
    found: BTreeMap<String, (usize, Vec<Finding>)>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let text = tree.text(list.path).unwrap_or_default();
    let allowed = parse(list, text, &mut outcome.findings);
    let counts: Counts = found
        .iter()
        .map(|(entry, (count, _))| (entry.clone(), *count))
        .collect();
    for (entry, (count, findings)) in found {
        let tolerated = allowed.get(&entry).copied().unwrap_or(0);
        if count <= tolerated {
            continue;
        }
        if tolerated > 0 {
            let what = format!("{count} {}, {tolerated} tolerated", list.unit);
            let fix = "the new ones are in your diff".to_owned();
            outcome
                .findings
                .push(Finding::new(&entry, 1, what, WHY, fix));
        }
        outcome.findings.extend(findings);
    }
    let lowered = lower(tree, &allowed, &counts);
    if lowered != allowed {
        let spare = total(&allowed) - total(&lowered);
        outcome.notes.push(format!(
            "{} is out of date ({spare} {} fewer); run `cargo xtask tidy --update`",
            list.path, list.unit
        ));
        outcome.updates.push((list.path, render(text, &lowered)));
    }
    if !outcome.findings.is_empty() {
        outcome.accepts.push((list.path, render(text, &counts)));
    }
    outcome
}

/// The counts of a list. What does not parse becomes a finding.
fn parse(list: List, text: &str, findings: &mut Vec<Finding>) -> Counts {
    let mut counts = Counts::new();
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry = line
            .split_once(' ')
            .and_then(|(count, path)| Some((count.parse().ok()?, path)));
        match entry {
            Some((count, path)) => {
                counts.insert(path.to_owned(), count);
            }
            None => findings.push(Finding::new(
                list.path,
                index + 1,
                format!("`{line}` is not an entry"),
                "entries are read by tidy",
                "write `COUNT PATH`",
            )),
        }
    }
    counts
}

/// The allowed counts, lowered to what was found.
fn lower(tree: &Tree, allowed: &Counts, counts: &Counts) -> Counts {
    let mut lowered = Counts::new();
    let mut orphaned = 0;
    for (path, &tolerated) in allowed {
        let file = path.split(' ').next().unwrap_or(path);
        if !tree.exists(file) {
            orphaned += tolerated;
        }
        let count = counts.get(path).copied().unwrap_or(0).min(tolerated);
        if count > 0 {
            lowered.insert(path.clone(), count);
        }
    }
    for (path, &count) in counts {
        if !allowed.contains_key(path) && count <= orphaned {
            orphaned -= count;
            lowered.insert(path.clone(), count);
        }
    }
    lowered
}

fn total(counts: &Counts) -> usize {
    counts.values().sum()
}

/// The text of a list: the comment at the top of the old one, then the entries by path.
fn render(old: &str, counts: &Counts) -> String {
    let comment = old.lines().take_while(|line| line.starts_with('#'));
    let entries = counts.iter().map(|(path, count)| format!("{count} {path}"));
    comment
        .map(str::to_owned)
        .chain(entries)
        .map(|line| line + "\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: List = List {
        path: "x.allow",
        unit: "bad words",
    };

    fn hits(path: &str, count: usize) -> Vec<Finding> {
        (0..count)
            .map(|line| Finding::new(path, line + 1, "bad", "why", "fix"))
            .collect()
    }

    fn outcome(list: &str, files: [&str; 2], found: Vec<Finding>) -> Outcome {
        let tree = Tree::from([("x.allow", list), (files[0], ""), (files[1], "")]);
        compare(LIST, &tree, found)
    }

    #[test]
    fn listed_findings_are_tolerated() {
        let found = outcome("# why\n2 a.rs\n", ["a.rs", "b.rs"], hits("a.rs", 2));
        assert_eq!(found, Outcome::default());
    }

    #[test]
    fn one_more_fails_and_shows_all_of_the_file() {
        let found = outcome("2 a.rs\n", ["a.rs", "b.rs"], hits("a.rs", 3));
        assert_eq!(found.findings.len(), 4);
        assert_eq!(found.findings[0].what, "3 bad words, 2 tolerated");
        assert_eq!(found.updates, [], "an update never raises an entry");
        assert_eq!(found.accepts, [("x.allow", "3 a.rs\n".to_owned())]);
    }

    #[test]
    fn a_file_without_an_entry_may_have_none() {
        let found = outcome("2 a.rs\n", ["a.rs", "b.rs"], {
            let mut found = hits("a.rs", 2);
            found.extend(hits("b.rs", 1));
            found
        });
        assert_eq!(found.findings, hits("b.rs", 1));
        assert_eq!(found.updates, [], "an update never adds an entry");
    }

    #[test]
    fn fewer_findings_are_a_note_that_update_acts_on() {
        let found = outcome("# why\n2 a.rs\n1 b.rs\n", ["a.rs", "b.rs"], hits("a.rs", 1));
        assert_eq!(found.findings, []);
        assert_eq!(
            found.notes,
            ["x.allow is out of date (2 bad words fewer); run `cargo xtask tidy --update`"]
        );
        let expected = ("x.allow", "# why\n1 a.rs\n".to_owned());
        assert_eq!(found.updates, [expected]);
    }

    #[test]
    fn the_entry_of_a_renamed_file_moves_with_update() {
        let found = outcome("2 old.rs\n", ["new.rs", "b.rs"], hits("new.rs", 2));
        assert_eq!(found.findings, hits("new.rs", 2), "until it is updated");
        let expected = ("x.allow", "2 new.rs\n".to_owned());
        assert_eq!(found.updates, [expected]);
        let more = outcome("2 old.rs\n", ["new.rs", "b.rs"], hits("new.rs", 3));
        assert_eq!(more.updates, [("x.allow", String::new())]);
    }

    #[test]
    fn an_entry_that_does_not_parse_is_a_finding() {
        let found = outcome("two a.rs\n", ["a.rs", "b.rs"], Vec::new());
        assert_eq!(found.findings[0].what, "`two a.rs` is not an entry");
    }
}
