//! Messages that the page on troubleshooting quotes exist: users look for them by their words.
//!
//! A quotation is a code span in the first column of a table. It is compared in pieces, since it has values
//! where the source has placeholders.

use crate::finding::Finding;
use crate::tree::Tree;

/// The page.
const PAGE: &str = "docs/guide/troubleshooting.md";

/// Words before or after which the source may have a placeholder.
const BOUNDARIES: [&str; 2] = ["vm", "but"];

/// Shorter pieces say nothing, characters.
const SHORTEST: usize = 8;

const WHY: &str = "the page would not be found by what the user sees";

/// Pieces of quoted messages that no source has.
pub(crate) fn quoted_messages(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.text(PAGE) else {
        return Vec::new();
    };
    let is_source = |path: &str| path.contains("/src/") && !path.starts_with("crates/xtask/");
    let sources = tree.ending(".rs").filter(|(path, _)| is_source(path));
    let sources: Vec<String> = sources.map(|(_, text)| joined(text)).collect();
    let mut findings = Vec::new();
    for (index, line) in page.lines().enumerate() {
        let Some(cell) = line
            .strip_prefix("| ")
            .and_then(|row| row.split(" | ").next())
        else {
            continue;
        };
        for piece in code_spans(cell).into_iter().flat_map(pieces) {
            if !sources.iter().any(|source| source.contains(&piece)) {
                findings.push(Finding::new(
                    PAGE,
                    index + 1,
                    format!("no source has a message with `{piece}`"),
                    WHY,
                    "quote the message as it is now",
                ));
            }
        }
    }
    findings
}

/// The source, with strings that continue on the next line in one piece.
fn joined(source: &str) -> String {
    let mut parts = source.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start())
}

/// What is between backticks, of any number.
fn code_spans(cell: &str) -> Vec<&str> {
    let mut spans = Vec::new();
    let mut rest = cell;
    while let Some(at) = rest.find('`') {
        let opened = &rest[at..];
        let fence = opened.len() - opened.trim_start_matches('`').len();
        let body = &opened[fence..];
        let Some(end) = body.find(&opened[..fence]) else {
            break;
        };
        spans.push(&body[..end]);
        rest = &body[end + fence..];
    }
    spans
}

/// The parts of a quotation that have no values, of at least two words.
fn pieces(quotation: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut words: Vec<&str> = Vec::new();
    let mut end = |words: &mut Vec<&str>| {
        let piece = words.join(" ");
        if words.len() > 1 && piece.len() >= SHORTEST {
            pieces.push(piece);
        }
        words.clear();
    };
    for word in quotation.split_whitespace() {
        let is_value = word.contains(|c: char| c.is_ascii_digit() || "/…(`<".contains(c));
        if is_value || BOUNDARIES.contains(&word) {
            end(&mut words);
            continue;
        }
        let bare = word.trim_end_matches([':', ',']);
        words.push(bare);
        if bare != word {
            end(&mut words);
        }
    }
    end(&mut words);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotation_is_found_without_its_values() {
        let source = "format!(\"memory is {} MiB, but {need}\"); \"the guest cannot \\\n    start in less than {}\"";
        let page = |quoted: &str| format!("| you see | do |\n|---|---|\n| `{quoted}` | `x` |\n");
        let found = |quoted: &str| {
            let page = page(quoted);
            let tree = Tree::from([(PAGE, page.as_str()), ("crates/a/src/b.rs", source)]);
            quoted_messages(&tree).len()
        };
        assert_eq!(
            found("memory is 48 MiB, but the guest cannot start in less than …"),
            0
        );
        assert_eq!(found("memory is 48 MiB, but the kernel reaches up to …"), 1);
        assert_eq!(found("exit"), 0);
    }

    #[test]
    fn spans_have_backticks_of_any_number() {
        assert_eq!(code_spans("`a`, ``b `c` d`` and `e"), ["a", "b `c` d"]);
    }
}
