//! A type is a noun: its name says what it is, and not what happened to it.
//!
//! Refuses types whose name is one word that is a participle, such as `Opened` or `Waiting`, or another word
//! that is not a noun, such as `After` or `Found`. Together with the noun that is missing the word is fine:
//! `OpenSession`, `WaitingFile`. Looks at the definitions in `src` folders, also those inside functions.

use crate::finding::Finding;
use crate::rust_source::{Hide, hide};
use crate::tree::Tree;

const WHY: &str = "a type is a noun, and one that a reader would search for";

/// Words with the ending of a participle that are nouns, or that Rust programs use as such.
const NOUNS: [&str; 11] = [
    "Bed",
    "Feed",
    "Finding",
    "Greeting",
    "Mapping",
    "Reordering",
    "Ring",
    "Setting",
    "Shared",
    "Sibling",
    "String",
];

/// Words without such an ending that are not nouns, or not those of a type.
const OTHERS: [&str; 18] = [
    "After", "Again", "Before", "Broken", "Found", "Gone", "Heard", "Held", "Kept", "Lost",
    "Never", "Next", "Ran", "Seen", "Taken", "Way", "What", "Written",
];

/// Types whose names are not nouns.
pub(crate) fn type_names(tree: &Tree) -> Vec<Finding> {
    let sources = tree
        .ending(".rs")
        .filter(|(path, _)| path.contains("/src/"));
    let mut findings = Vec::new();
    for (path, text) in sources {
        let code = hide(text, Hide::CommentsAndStrings);
        for (index, line) in code.lines().enumerate() {
            let Some(name) = defined_type(line).filter(|name| !is_noun(name)) else {
                continue;
            };
            let what = format!("the type `{name}`");
            let fix = "add the noun that it is about, as in `WaitOutcome` for `Waited`";
            findings.push(Finding::new(path, index + 1, what, WHY, fix));
        }
    }
    findings
}

/// The name of the type or trait that a line begins to define.
fn defined_type(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let mut word = words.next()?;
    // `pub(in crate::x)` is two words.
    while word.starts_with("pub") || word.ends_with(')') {
        word = words.next()?;
    }
    let is_definition = matches!(word, "struct" | "enum" | "trait" | "type" | "union");
    let name = words.next().filter(|_| is_definition)?;
    let end = name.find(|c: char| !c.is_alphanumeric());
    Some(&name[..end.unwrap_or(name.len())])
}

fn is_noun(name: &str) -> bool {
    let is_one_word = !name.chars().skip(1).any(char::is_uppercase);
    let is_participle = ["ed", "ing"].iter().any(|end| name.ends_with(end));
    !is_one_word || NOUNS.contains(&name) || !(is_participle || OTHERS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::lines;

    fn found(text: &str) -> Vec<String> {
        lines(type_names(&Tree::from([("crates/x/src/a.rs", text)])))
    }

    #[test]
    fn participles_and_other_words_are_refused() {
        assert_eq!(
            found(
                "struct Opened;\npub(in crate::a) enum Waiting<T> {\npub(crate) type Found = u8;\n"
            ),
            [
                "1: the type `Opened`",
                "2: the type `Waiting`",
                "3: the type `Found`"
            ]
        );
    }

    #[test]
    fn nouns_variants_and_comments_are_not_looked_at() {
        let text =
            "struct OpenSession;\ntrait Greeting {\nenum A {\n    Opened,\n}\n// struct Opened\n";
        assert_eq!(found(text), [""; 0]);
    }

    #[test]
    fn tests_may_name_their_helpers_freely() {
        let tree = Tree::from([("crates/x/tests/a.rs", "struct Opened;\n")]);
        assert_eq!(type_names(&tree), []);
    }
}
