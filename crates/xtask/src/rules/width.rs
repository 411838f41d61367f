//! Comments and pages have lines of at most 120 columns.
//!
//! rustfmt wraps code at 100 columns and leaves comments alone. Of the comments and pages that were
//! here when this rule was introduced, nine in ten kept to 100 columns and 99 in 100 to 120. Rows of
//! tables and fenced blocks may be wider, since they cannot be wrapped; so may any line without a
//! space to break it at, such as a long address. Files that were wider before this rule are in
//! `width.allow`.

use crate::finding::Finding;
use crate::lua_source;
use crate::markdown;
use crate::ratchet::{self, List, Outcome};
use crate::tree::Tree;

const COLUMNS: usize = 120;

const LIST: List = List {
    path: "crates/xtask/width.allow",
    unit: "wide lines",
};

const WHY: &str = "two files fit side by side, and a diff shows the sentence that has changed";

/// Lines that are too wide, beyond those that the list tolerates.
pub(crate) fn width(tree: &Tree) -> Outcome {
    let rust = tree.ending(".rs").flat_map(|(path, text)| {
        let comments = text.lines().enumerate();
        wide(
            path,
            comments.filter(|(_, line)| line.trim_start().starts_with("//")),
        )
    });
    let lua = tree.ending(".lua").flat_map(|(path, text)| {
        let comments = text.lines().enumerate();
        wide(
            path,
            comments.filter(|(_, line)| lua_source::is_comment(line)),
        )
    });
    let pages = tree.ending(".md").flat_map(|(path, text)| {
        let (_, prose) = markdown::split(text);
        let prose = prose.into_iter().map(|(number, line)| (number - 1, line));
        wide(path, prose)
    });
    ratchet::compare(LIST, tree, rust.chain(lua).chain(pages).collect())
}

/// Those of the lines, which are numbered from 0, that are too wide.
fn wide<'a>(path: &str, lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<Finding> {
    let too_wide = lines.filter(|(_, line)| line.chars().count() > COLUMNS && can_wrap(line));
    too_wide
        .map(|(index, line)| {
            let what = format!("{} columns, over {COLUMNS}", line.chars().count());
            Finding::new(path, index + 1, what, WHY, "wrap the sentence")
        })
        .collect()
}

/// Whether the line is not a table's row and has a space between two words before the limit.
fn can_wrap(line: &str) -> bool {
    let is_mark = |c: char| c.is_whitespace() || "/!*->".contains(c);
    let text = line.trim_start_matches(is_mark);
    let indent = line.chars().count() - text.chars().count();
    let mut columns = text.chars().take(COLUMNS.saturating_sub(indent));
    !text.starts_with('|') && columns.any(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::lines;

    fn found(path: &str, text: &str) -> Vec<String> {
        lines(width(&Tree::from([(path, text)])).findings)
    }

    /// A line of `columns` columns in words of four letters.
    fn line(prefix: &str, columns: usize) -> String {
        let words = "päpe ".repeat(columns);
        let text: String = prefix.chars().chain(words.chars()).take(columns).collect();
        text + "\n"
    }

    #[test]
    fn comments_of_121_columns_are_found() {
        for (path, prefix) in [("a.rs", "    /// "), ("a.rs", "//! "), ("a.lua", "-- ")] {
            assert_eq!(found(path, &line(prefix, 120)), [""; 0]);
            let text = format!("x\n{}", line(prefix, 121));
            assert_eq!(found(path, &text), ["2: 121 columns, over 120"]);
        }
    }

    #[test]
    fn code_is_left_to_rustfmt() {
        assert_eq!(found("a.rs", &line("let x = ", 200)), [""; 0]);
        assert_eq!(found("a.lua", &line("local x = ", 200)), [""; 0]);
    }

    #[test]
    fn pages_are_measured_outside_of_tables_and_fences() {
        assert_eq!(
            found("a.md", &format!("# A\n{}", line("", 130))),
            ["2: 130 columns, over 120"]
        );
        assert_eq!(found("a.md", &line("| a ", 130)), [""; 0]);
        assert_eq!(found("a.rs", &line("//! | a ", 130)), [""; 0]);
        let fence = format!("```text\n{}```\n", line("", 130));
        assert_eq!(found("a.md", &fence), [""; 0]);
    }

    #[test]
    fn a_line_that_cannot_be_wrapped_is_left_alone() {
        let address = format!("- https://{}\n", "a".repeat(130));
        assert_eq!(found("a.md", &address), [""; 0]);
    }

    #[test]
    fn the_list_tolerates_old_lines() {
        let text = line("// ", 121);
        let tree = Tree::from([(LIST.path, "1 a.rs\n"), ("a.rs", text.as_str())]);
        assert_eq!(width(&tree), Outcome::default());
    }
}
