//! Plain words: comments, strings, names and pages use the English of the field's manuals.
//!
//! Looks at comments and literals of Rust and Lua, and at Markdown; for some words also at names in
//! code. What is between backticks is a quotation and is not looked at, and neither is a literal
//! that is the name of the account `nobody`. A phrase is found across the end of a line, but not
//! across punctuation. The words are in [`word_list`](super::word_list); how many of them a file may
//! still have, in `words.allow`; of those in names, and of "there is no …", in `names.allow`.

use super::word_list::{ABSENCES, IDIOMS, Idiom, NAMES};
use crate::finding::Finding;
use crate::lua_source;
use crate::ratchet::{self, List, Outcome};
use crate::rust_source::{Hide, has_word, hide};
use crate::tree::Tree;

const LIST: List = List {
    path: "crates/xtask/words.allow",
    unit: "forbidden words",
};

const NAMES_LIST: List = List {
    path: "crates/xtask/names.allow",
    unit: "forbidden names or absences",
};

/// Files that name the words in order to forbid them.
const EXEMPT: [&str; 2] = [
    "crates/xtask/src/rules/word_list.rs",
    "crates/xtask/src/rules/words.rs",
];

const WHY: &str = "it is not the English of the field's manuals";

/// Forbidden words, beyond those that the list tolerates.
pub(crate) fn words(tree: &Tree) -> Outcome {
    let (words, absences) = found(tree);
    let mut outcome = ratchet::compare(LIST, tree, words);
    let mut names = in_names(tree);
    names.extend(absences);
    outcome.merge(ratchet::compare(NAMES_LIST, tree, names));
    outcome
}

/// Findings in prose: idioms, and absences.
fn found(tree: &Tree) -> (Vec<Finding>, Vec<Finding>) {
    let rust = tree
        .ending(".rs")
        .map(|(path, text)| (path, hide(text, Hide::Code)));
    let lua = tree
        .ending(".lua")
        .map(|(path, text)| (path, lua_source::prose(text)));
    let pages = tree
        .ending(".md")
        .map(|(path, text)| (path, text.to_owned()));
    let prose: Vec<_> = rust
        .chain(lua)
        .chain(pages)
        .filter(|(path, _)| !EXEMPT.contains(path))
        .collect();
    let check_all = |idioms| {
        let all = prose.iter();
        all.flat_map(|(path, prose)| check(path, prose, idioms))
            .collect()
    };
    (check_all(IDIOMS), check_all(ABSENCES))
}

/// Words in the names of code.
fn in_names(tree: &Tree) -> Vec<Finding> {
    let rust = tree
        .ending(".rs")
        .map(|(path, text)| (path, hide(text, Hide::CommentsAndStrings)));
    let lua = tree
        .ending(".lua")
        .map(|(path, text)| (path, lua_source::code(text)));
    rust.chain(lua)
        .filter(|(path, _)| !EXEMPT.contains(path))
        .flat_map(|(path, code)| check_names(path, &code))
        .collect()
}

fn check_names(path: &str, code: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in code.lines().enumerate() {
        for name in NAMES.into_iter().filter(|name| has_word(line, name)) {
            let what = format!("the name `{name}`");
            let fix = "name it after what it is";
            findings.push(Finding::new(path, index + 1, what, WHY, fix));
        }
    }
    findings
}

/// The account, as tests and `/etc/passwd` name it.
const ACCOUNT: [&str; 3] = ["\"nobody\"", "'nobody'", "nobody:x:65534:65534:nobody:"];

fn check(path: &str, prose: &str, idioms: &'static [Idiom]) -> Vec<Finding> {
    let prose = ACCOUNT.iter().fold(prose.to_owned(), |prose, account| {
        prose.replace(account, "`nobody`")
    });
    let words = split(&prose);
    let patterns: Vec<_> = idioms
        .iter()
        .map(|idiom| (idiom, Pattern::new(idiom.pattern), exceptions(idiom)))
        .collect();
    let mut findings = Vec::new();
    for at in 0..words.len() {
        for (idiom, pattern, except) in &patterns {
            if !pattern.matches(&words[at..]) || except.iter().any(|e| e.covers(&words, at)) {
                continue;
            }
            let phrase: Vec<&str> = words[at..at + pattern.len()]
                .iter()
                .map(|word| word.text.as_str())
                .collect();
            let what = format!("“{}”", phrase.join(" "));
            let fix = format!("write: {}", idiom.instead);
            findings.push(Finding::new(path, words[at].line, what, WHY, fix));
        }
    }
    findings
}

fn exceptions(idiom: &Idiom) -> Vec<Pattern> {
    idiom.except.iter().map(|text| Pattern::new(text)).collect()
}

/// A sequence of sets of words; an empty set is any word.
struct Pattern(Vec<Vec<&'static str>>);

impl Pattern {
    fn new(text: &'static str) -> Self {
        let alternatives = |part: &'static str| match part {
            "*" => Vec::new(),
            part => part.split('|').collect(),
        };
        Self(text.split(' ').map(alternatives).collect())
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether `words` begin with it.
    fn matches(&self, words: &[Word]) -> bool {
        words.len() >= self.len()
            && self.0.iter().zip(words).all(|(set, word)| {
                !word.is_break() && (set.is_empty() || set.contains(&word.text.as_str()))
            })
    }

    /// Whether it matches somewhere so that the word at `at` is part of it.
    fn covers(&self, words: &[Word], at: usize) -> bool {
        let first = at.saturating_sub(self.len() - 1);
        (first..=at).any(|start| self.matches(&words[start..]))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Word {
    /// In lower case; empty where punctuation or a paragraph's end breaks the sentence.
    text: String,
    /// Counted from 1.
    line: usize,
}

impl Word {
    fn is_break(&self) -> bool {
        self.text.is_empty()
    }
}

/// What a quotation is replaced by: a word that no pattern names.
const QUOTED: &str = "`…`";

fn split(prose: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for (index, line) in prose.lines().enumerate() {
        let line = content(line);
        if line.is_empty() {
            push(&mut words, "", index + 1);
        }
        // Every second piece between backticks is a quotation; a last backtick without a partner
        // quotes nothing.
        let pieces: Vec<&str> = line.split('`').collect();
        for (number, piece) in pieces.iter().enumerate() {
            if number % 2 == 1 && number + 1 < pieces.len() {
                push(&mut words, QUOTED, index + 1);
            } else {
                split_piece(&mut words, piece, index + 1);
            }
        }
    }
    words
}

/// A line without the marks of a comment, a list or a quotation around its text.
fn content(line: &str) -> &str {
    let is_mark = |c: char| c.is_whitespace() || "/!*-#>".contains(c);
    line.trim_start_matches(is_mark)
        .trim_end_matches(['\\', ' '])
}

fn split_piece(words: &mut Vec<Word>, piece: &str, line: usize) {
    let mut rest = piece;
    while let Some(first) = rest.chars().next() {
        let (end, text) = if first == '{' {
            // A value that is put into a message.
            (rest.find('}').map_or(rest.len(), |at| at + 1), QUOTED)
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            (end, rest[..end].trim_end_matches('\''))
        } else {
            let end = first.len_utf8();
            if first.is_whitespace() {
                rest = &rest[end..];
                continue;
            }
            (end, "")
        };
        push(words, text, line);
        rest = &rest[end..];
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '\'' | '-' | '_')
}

fn push(words: &mut Vec<Word>, text: &str, line: usize) {
    words.push(Word {
        text: text.to_lowercase(),
        line,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::lines;

    fn in_tree(path: &str, text: &str) -> Vec<String> {
        lines(words(&Tree::from([(path, text)])).findings)
    }

    fn in_page(text: &str) -> Vec<String> {
        in_tree("a.md", text)
    }

    #[test]
    fn every_idiom_is_found_and_is_not_its_own_exception() {
        for idiom in IDIOMS.iter().chain(ABSENCES) {
            for first in idiom.pattern.split(' ').next().unwrap().split('|') {
                let mut sample = vec![first];
                sample.extend(idiom.pattern.split(' ').skip(1).map(|part| match part {
                    "*" => "thing",
                    part => part.split('|').next().unwrap(),
                }));
                let sample = sample.join(" ");
                assert_eq!(in_page(&sample), [format!("1: “{sample}”")]);
            }
            for except in idiom.except {
                let sample: Vec<&str> = except
                    .split(' ')
                    .map(|part| match part {
                        "*" => "thing",
                        part => part.split('|').next().unwrap(),
                    })
                    .collect();
                let itself = std::slice::from_ref(idiom);
                let found = check("a.md", &sample.join(" "), itself);
                assert_eq!(found, [], "{except}");
            }
        }
    }

    #[test]
    fn the_message_says_what_to_write() {
        let tree = Tree::from([("a.md", "x\nIt is made anew.\n")]);
        assert_eq!(
            words(&tree).findings[0].to_string(),
            "a.md:2: “anew”: it is not the English of the field's manuals; \
             write: again, or from scratch"
        );
    }

    #[test]
    fn rust_is_searched_in_comments_strings_and_names() {
        let text = "//! Nobody.\nlet (told, is_told, be, had) = f(\"is told\"); // anew\n";
        assert_eq!(
            in_tree("a.rs", text),
            [
                "1: “nobody”",
                "2: “told”",
                "2: “anew”",
                "2: the name `told`"
            ]
        );
    }

    #[test]
    fn lua_is_searched_in_comments_strings_and_names() {
        let text = "-- Nobody.\nlocal told, is_told = f('is told') -- anew\n";
        assert_eq!(
            in_tree("a.lua", text),
            [
                "1: “nobody”",
                "2: “told”",
                "2: “anew”",
                "2: the name `told`"
            ]
        );
    }

    #[test]
    fn the_account_of_that_name_is_a_quotation() {
        let text = "vm:run('id', {user = \"nobody\"}, 'nobody')\nf('nobody knows')\n";
        assert_eq!(in_tree("a.lua", text), ["2: “nobody”"]);
        let text = "f(\"nobody:x:65534:65534:nobody:/:/bin/false\");\n";
        assert_eq!(in_tree("a.rs", text), [""; 0]);
    }

    #[test]
    fn phrases_are_found_across_lines_and_not_across_sentences() {
        assert_eq!(
            in_tree("a.rs", "/// It cannot be\n/// had here.\n"),
            ["1: “be had”"]
        );
        assert_eq!(
            in_tree("a.rs", "f(\"it cannot be \\\n    had\");\n"),
            ["1: “be had”"]
        );
        assert_eq!(in_page("What will be. Had it been.\n"), [""; 0]);
        assert_eq!(in_page("What will be\n\nhad it been\n"), [""; 0]);
        assert_eq!(in_tree("a.rs", "f([\"to be\", \"had\"]);\n"), [""; 0]);
    }

    #[test]
    fn negated_nouns_are_found_also_before_a_value() {
        assert_eq!(in_page("It is no package."), ["1: “is no package”"]);
        assert_eq!(in_page("It is no `file`."), ["1: “is no `…`”"]);
        assert_eq!(
            in_tree("a.rs", "f!(\"`{path}` is no {kind}\");\n"),
            ["1: “is no `…`”"]
        );
        assert_eq!(
            in_page("There are no files. They are no longer used, and were no larger than that."),
            [""; 0]
        );
        assert_eq!(in_page("There is no file."), ["1: “there is no file”"]);
        assert_eq!(in_page("It is no longer used."), ["1: “is no longer”"]);
        assert_eq!(in_page("It is no larger than."), ["1: “is no larger than”"]);
        assert_eq!(in_page("The answer is no. Files are kept."), [""; 0]);
    }

    #[test]
    fn quotations_and_parts_of_words_are_not_looked_at() {
        assert_eq!(in_page("say `told`, not `is_told`; `let told`"), [""; 0]);
        assert_eq!(in_page("standard, untold, patiently, re-told"), [""; 0]);
    }

    #[test]
    fn names_and_absences_have_a_list_of_their_own() {
        let text = "let told = 1; // There is no file.\n";
        let tree = Tree::from([(NAMES_LIST.path, "2 a.rs\n"), ("a.rs", text)]);
        assert_eq!(words(&tree), Outcome::default());
    }

    #[test]
    fn tolerated_findings_pass_and_fewer_give_a_note() {
        let tree = Tree::from([(LIST.path, "2 a.md\n"), ("a.md", "told, told")]);
        assert_eq!(words(&tree), Outcome::default());
        let tree = Tree::from([(LIST.path, "2 a.md\n"), ("a.md", "told")]);
        let outcome = words(&tree);
        assert_eq!(outcome.findings, []);
        assert_eq!(outcome.updates, [(LIST.path, "1 a.md\n".to_owned())]);
    }
}
