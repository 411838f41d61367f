//! Commit titles: `area: verb …`, imperative, at most 72 characters.
//!
//! | example | |
//! |---|---|
//! | `vmm: treat a reboot during S3 wakeup as resumed too late` | fine |
//! | `agent/tests: serialise writing and executing the agent` | fine |
//! | `Added a rule` | no area, not imperative |
//!
//! Only commits that are not on the main branch yet can still be reworded, so only those are
//! looked at, and of those only descendants of the commit that added this file. Merges and reverts
//! keep the titles that git gives them.

use crate::finding::Finding;
use crate::git::Commit;

/// The rule holds for commits after the one that added this file.
pub(crate) const SINCE: &str = "crates/xtask/src/rules/commit_titles.rs";

const LONGEST: usize = 72;

/// First words that are not a verb and used to be the subject of a sentence.
const SUBJECTS: [&str; 14] = [
    "a", "an", "the", "it", "its", "one", "no", "what", "who", "where", "when", "more", "new",
    "all",
];

/// Verbs that look like a past tense, a participle or a third person and are none of them.
const VERBS: [&str; 17] = [
    "bring", "embed", "exceed", "feed", "fling", "need", "ping", "proceed", "ring", "seed", "shed",
    "shred", "spring", "string", "succeed", "wing", "bias",
];

/// Titles that do not have the form.
pub(crate) fn commit_titles(commits: &[Commit]) -> Vec<Finding> {
    commits
        .iter()
        .filter_map(|commit| {
            let (what, fix) = broken(&commit.title)?;
            let what = format!("the title “{}” {what}", commit.title);
            let place = format!("commit {}", commit.hash);
            let why = "titles are read as a list: where, and what the change does";
            Some(Finding::new(&place, 1, what, why, fix))
        })
        .collect()
}

/// What is wrong with a title, and what to do.
fn broken(title: &str) -> Option<(String, String)> {
    if title.starts_with("Revert \"") {
        return None;
    }
    let length = title.chars().count();
    if length > LONGEST {
        let fix = "move the reason to the body".to_owned();
        return Some((format!("has {length} characters, over {LONGEST}"), fix));
    }
    let Some((_, text)) = title.split_once(": ").filter(|(area, _)| is_area(area)) else {
        let fix =
            "write `area: verb …`, the area in lower case: a crate, a folder or a file".to_owned();
        return Some(("names no area".to_owned(), fix));
    };
    let verb = text.split_whitespace().next().unwrap_or_default();
    if !is_imperative(verb) {
        let fix = "write what the change does: `add`, `fix`, `report`".to_owned();
        return Some((format!("begins with “{verb}”, not an imperative verb"), fix));
    }
    if title.ends_with('.') {
        let fix = "leave it out".to_owned();
        return Some(("ends with a full stop".to_owned(), fix));
    }
    None
}

/// `lab`, `agent/tests`, `lua, lab`, `docs/guide/fast-tests.md`.
fn is_area(area: &str) -> bool {
    area.split(", ").all(|part| {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-./".contains(c);
        !part.is_empty() && part.chars().all(fine)
    })
}

fn is_imperative(verb: &str) -> bool {
    let is_third_person = verb.ends_with('s')
        && !["ss", "us", "is", "as"]
            .iter()
            .any(|end| verb.ends_with(end));
    let is_participle = verb.ends_with("ed") || verb.ends_with("ing");
    let is_word = verb.starts_with(|c: char| c.is_ascii_lowercase())
        && verb.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    is_word
        && !SUBJECTS.contains(&verb)
        && (VERBS.contains(&verb) || !(is_third_person || is_participle))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(title: &str) -> Option<String> {
        let commits = [Commit {
            hash: "abc1234".to_owned(),
            title: title.to_owned(),
        }];
        commit_titles(&commits).pop().map(|finding| finding.what)
    }

    #[test]
    fn titles_of_the_form_are_fine() {
        for fine in [
            "lab: keep the grant when a restore fails",
            "agent/tests: serialise writing and executing the agent binary",
            "lua, lab: embed the line of the call",
            "docs/guide/fast-tests.md: process `a: b` in a block",
            "xtask: re-read the tree after an update",
            "Revert \"lab: keep the grant when a restore fails\"",
        ] {
            assert_eq!(found(fine), None, "{fine}");
        }
    }

    #[test]
    fn titles_without_an_area_are_found() {
        for bad in [
            "keep the grant",
            "Lab: keep the grant",
            "lab keep: the grant",
            "lab:keep the grant",
            "The lab: keep the grant",
            ": keep the grant",
        ] {
            assert!(found(bad).unwrap().ends_with("names no area"), "{bad}");
        }
    }

    #[test]
    fn titles_that_are_not_imperative_are_found() {
        for bad in [
            "lab: added a grant",
            "lab: adding a grant",
            "lab: adds a grant",
            "lab: the grant is kept",
            "lab: Keep the grant",
            "lab: `grant` is kept",
            "lab: ",
        ] {
            assert!(found(bad).unwrap().contains("imperative"), "{bad}");
        }
    }

    #[test]
    fn titles_over_72_characters_are_found() {
        let fine = format!("lab: keep {}", "ä".repeat(62));
        assert_eq!(found(&fine), None);
        assert!(
            found(&(fine + "ä"))
                .unwrap()
                .ends_with("has 73 characters, over 72")
        );
    }

    #[test]
    fn titles_with_a_full_stop_are_found() {
        assert!(
            found("lab: keep the grant.")
                .unwrap()
                .ends_with("a full stop")
        );
    }

    #[test]
    fn the_message_names_the_commit_and_the_form() {
        let commits = [Commit {
            hash: "abc1234".to_owned(),
            title: "Things".to_owned(),
        }];
        assert_eq!(
            commit_titles(&commits)[0].to_string(),
            "commit abc1234:1: the title “Things” names no area: titles are read as a list: where, \
             and what the change does; write `area: verb …`, the area in lower case: a crate, a \
             folder or a file"
        );
    }

    #[test]
    fn the_file_that_the_rule_begins_with_exists() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert!(root.join(SINCE).exists());
    }
}
