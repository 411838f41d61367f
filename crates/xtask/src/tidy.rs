//! `cargo xtask tidy`: every rule over the whole tree.
//!
//! | rule | checks |
//! |---|---|
//! | [`arrows`](rules::arrows) | who may depend on whom; libraries that belong to one crate; lints of the workspace |
//! | [`circles`](rules::circles) | files of a crate that use each other, with a list |
//! | [`code`](rules::code) | `allow`, `unsafe`, prints, exits, children, I/O in pure crates |
//! | [`commit_titles`](rules::commit_titles) | titles of commits that are not on the main branch yet |
//! | [`files`](rules::files) | length, names, docs at the top, `mod.rs` that only points |
//! | [`glossary`](rules::glossary) | places that the glossary names |
//! | [`links`](rules::links) | links between the pages |
//! | [`lua_files`](rules::lua_files) | names of tests, examples and what they require |
//! | [`methods`](rules::methods) | types with many methods, with a list |
//! | [`quoted_messages`](rules::quoted_messages) | messages that the page on troubleshooting quotes |
//! | [`type_names`](rules::type_names) | names of types that are not nouns |
//! | [`width`](rules::width) | columns of comments and pages, with a list |
//! | [`words`](rules::words) | plain words in comments, strings, names and pages, with a list |
//!
//! A rule with a list tolerates the findings that it was introduced with; see
//! [`ratchet`](crate::ratchet).

use crate::git::Commit;
use crate::ratchet::Outcome;
use crate::rules;
use crate::tree::Tree;

/// What breaks a rule, in the order of paths and lines, with notes and new texts of lists.
///
/// `commits` are those whose titles are checked, or the reason why they are not known.
pub(crate) fn check(tree: &Tree, commits: Result<Vec<Commit>, String>) -> Outcome {
    let mut all = Outcome::default();
    for rule in [
        rules::arrows,
        rules::code,
        rules::files,
        rules::glossary,
        rules::links,
        rules::lua_files,
        rules::quoted_messages,
        rules::type_names,
    ] {
        all.findings.extend(rule(tree));
    }
    for rule in [rules::circles, rules::methods, rules::width, rules::words] {
        all.merge(rule(tree));
    }
    match commits {
        Ok(commits) => all.findings.extend(rules::commit_titles(&commits)),
        Err(reason) => {
            let note = format!("commit titles are not checked: {reason}");
            all.notes.push(note);
        }
    }
    all.findings.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_and_notes_of_all_rules_come_together() {
        let tree = Tree::from([
            ("b.md", "[x](gone.md)\n"),
            ("a.rs", "use b;\n"),
            ("crates/xtask/words.allow", "1 gone.md\n"),
        ]);
        let titles = vec![Commit {
            hash: "abc1234".to_owned(),
            title: "Things".to_owned(),
        }];
        let outcome = check(&tree, Ok(titles));
        let places: Vec<&str> = outcome.findings.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(places, ["a.rs", "b.md", "commit abc1234"]);
        assert_eq!(outcome.notes.len(), 1);
        assert_eq!(outcome.updates.len(), 1);
    }

    #[test]
    fn a_history_that_cannot_be_read_is_a_note() {
        let outcome = check(&Tree::from([]), Err("no repository".to_owned()));
        assert_eq!(outcome.findings, []);
        assert_eq!(
            outcome.notes,
            ["commit titles are not checked: no repository"]
        );
    }
}
