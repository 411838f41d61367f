//! Rust files: one idea each, under a name that says it, with docs at the top.
//!
//! | lines before the tests | |
//! |---|---|
//! | up to 500 | fine |
//! | over 500 | the module's docs say why in a sentence that begins with "Long because" |
//! | over 800 | refused |

use crate::finding::Finding;
use crate::rust_source::lines_before_tests;
use crate::tree::Tree;

const SAYS_WHY: usize = 500;
const LONGEST: usize = 800;
/// What the docs of a file over [`SAYS_WHY`] lines contain.
const REASON: &str = "Long because";
const NO_NAMES: [&str; 6] = ["util", "utils", "helpers", "common", "misc", "imp"];

/// Files that are too long, say nothing about themselves, or are named after nothing.
pub(crate) fn files(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".rs") {
        findings.extend(length(path, text));
        findings.extend(name(path));
        findings.extend(docs(path, text));
        if path.ends_with("/mod.rs") && !path.contains("/tests/") {
            findings.extend(only_points(path, text));
        }
    }
    findings
}

fn length(path: &str, text: &str) -> Option<Finding> {
    const WHY: &str = "a file is one idea";
    let lines = lines_before_tests(text);
    if lines > LONGEST {
        let what = format!("{lines} lines before its tests, over {LONGEST}");
        return Some(Finding::new(path, 1, what, WHY, "split it"));
    }
    if lines > SAYS_WHY && !module_docs(text).contains(REASON) {
        let what = format!("{lines} lines before its tests, over {SAYS_WHY}");
        let fix = format!("split it, or say why in its module docs (`{REASON} …`)");
        return Some(Finding::new(path, 1, what, WHY, fix));
    }
    None
}

fn module_docs(text: &str) -> String {
    text.lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .collect()
}

fn name(path: &str) -> Option<Finding> {
    let stem = path.trim_end_matches(".rs").trim_end_matches("/mod");
    let part = stem.split('/').find(|part| NO_NAMES.contains(part))?;
    Some(Finding::new(
        path,
        1,
        format!("the name `{part}`"),
        "it says nothing about what is inside, so anything goes in",
        "name it after its idea",
    ))
}

fn docs(path: &str, text: &str) -> Option<Finding> {
    if text.starts_with("//!") {
        return None;
    }
    Some(Finding::new(
        path,
        1,
        "no module docs",
        "a reader meets the purpose first",
        "begin the file with `//!`: purpose, life cycle, what it does not do",
    ))
}

/// A `mod.rs` may hold docs, attributes, `mod` and `use`, and tests behind them.
fn only_points(path: &str, text: &str) -> Option<Finding> {
    let mut open_use = false;
    for (index, line) in text.lines().take(lines_before_tests(text)).enumerate() {
        let line = line.trim();
        if open_use {
            open_use = !line.ends_with(';');
            continue;
        }
        if line.is_empty() || line.starts_with("//") || line.starts_with('#') {
            continue;
        }
        let item = without_visibility(line);
        let is_mod = item.starts_with("mod ") && item.ends_with(';');
        let is_use = item.starts_with("use ") && item.len() < line.len();
        if is_use {
            open_use = !item.ends_with(';');
        } else if !is_mod {
            return Some(Finding::new(
                path,
                index + 1,
                "code in a `mod.rs`",
                "it holds docs, `mod` and `pub use`, so that it reads as the folder's contents",
                "move the item to a file of its own",
            ));
        }
    }
    None
}

/// The line without `pub` or `pub(…)`.
fn without_visibility(line: &str) -> &str {
    let Some(rest) = line.strip_prefix("pub") else {
        return line;
    };
    match rest
        .strip_prefix('(')
        .and_then(|inner| inner.split_once(')'))
    {
        Some((_, item)) => item.trim_start(),
        None => rest.trim_start(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::lines;

    fn found(path: &str, text: &str) -> Vec<String> {
        lines(files(&Tree::from([(path, text)])))
    }

    fn long(docs: &str, lines: usize) -> String {
        format!(
            "//! {docs}\n{}#[cfg(test)]\nmod tests {{}}\n",
            "x\n".repeat(lines - 1)
        )
    }

    #[test]
    fn length_counts_up_to_the_tests() {
        assert!(found("a.rs", &long("A.", 500)).is_empty());
        let tail = "x\n".repeat(900);
        assert!(found("a.rs", &format!("{}{tail}", long("A.", 500))).is_empty());
    }

    #[test]
    fn a_long_file_says_why_and_a_longer_one_is_refused() {
        assert_eq!(
            found("a.rs", &long("A.", 501)),
            ["1: 501 lines before its tests, over 500"]
        );
        assert!(found("a.rs", &long("Long because it is one table.", 800)).is_empty());
        assert_eq!(
            found("a.rs", &long("Long because it is one table.", 801)),
            ["1: 801 lines before its tests, over 800"]
        );
    }

    #[test]
    fn names_that_say_nothing() {
        assert_eq!(
            found("crates/x/src/util.rs", "//! A.\n"),
            ["1: the name `util`"]
        );
        assert_eq!(
            found("crates/x/src/imp/mod.rs", "//! A.\n"),
            ["1: the name `imp`"]
        );
        assert!(found("crates/x/src/imports.rs", "//! A.\n").is_empty());
    }

    #[test]
    fn docs_come_first() {
        assert_eq!(found("a.rs", "use b;\n"), ["1: no module docs"]);
    }

    #[test]
    fn a_mod_file_points_and_holds_nothing() {
        let fine = "//! A.\n\n#[cfg(test)]\nmod fake;\nmod a;\npub mod b;\npub(crate) use a::{\n    \
                    X,\n    Y,\n};\npub use b::Z;\n\n#[cfg(test)]\nmod tests {\n    use a::X;\n}\n";
        assert!(found("x/mod.rs", fine).is_empty());
        assert_eq!(
            found("x/mod.rs", "//! A.\nmod a;\nfn f() {}\n"),
            ["3: code in a `mod.rs`"]
        );
        assert_eq!(
            found("x/mod.rs", "//! A.\nuse a::X;\n"),
            ["2: code in a `mod.rs`"]
        );
        assert!(found("x/other.rs", "//! A.\nfn f() {}\n").is_empty());
        assert!(found("x/tests/mod.rs", "//! A.\nfn f() {}\n").is_empty());
    }
}
