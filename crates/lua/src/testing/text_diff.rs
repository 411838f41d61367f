//! How two texts differ: the first difference, and a diff by lines.

use crate::text;
use similar::TextDiff;
use std::time::Duration;

/// Longest text that a message shows whole, bytes.
pub(super) const SHORT: usize = 200;
/// Bytes that are shown on each side of the first difference.
const CONTEXT: usize = 60;
/// Longest text that is compared line by line, bytes.
const MAX_COMPARED: usize = 4 << 20;
/// Time for that; what is not found by then is a coarser diff.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Lines around each difference.
const RADIUS: usize = 3;
/// Most lines of a diff that are shown.
const MAX_LINES: usize = 80;
/// Longest line of a diff that is shown whole, characters.
const MAX_LINE: usize = 400;

/// Where two texts differ first and, if they have several lines, their diff. `None` if they are short and of one
/// line each, which a message shows whole.
pub(super) fn describe(actual: &[u8], expected: &[u8]) -> Option<String> {
    let both = [actual, expected];
    let has_lines = both.iter().any(|text| text.contains(&b'\n'));
    let is_long = both.iter().any(|text| text.len() > SHORT);
    if actual == expected || !(has_lines || is_long) {
        return None;
    }
    let at = common_prefix(actual, expected);
    let before = &actual[..at];
    let start = before.iter().rposition(|byte| *byte == b'\n');
    let start = start.map_or(0, |end| end + 1);
    let place = format!(
        "the first difference is at byte {} (line {}, column {}); actual has {} bytes, expected {}",
        at + 1,
        1 + before.iter().filter(|byte| **byte == b'\n').count(),
        at - start + 1,
        actual.len(),
        expected.len()
    );
    let shown = if has_lines && both.iter().all(|text| text.len() <= MAX_COMPARED) {
        line_diff(actual, expected)
    } else {
        let [actual, expected] = both.map(|text| around(text, at));
        format!("  actual:   {actual}\n  expected: {expected}")
    };
    Some(format!("{place}\n{shown}"))
}

/// The number of bytes that both begin with.
pub(super) fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// The part of a text around a position; says how much is left out.
fn around(text: &[u8], at: usize) -> String {
    let from = at.saturating_sub(CONTEXT).min(text.len());
    let end = text.len().min(at + CONTEXT);
    let left_out = |count: usize| match count {
        0 => String::new(),
        count => format!("({count} bytes …) "),
    };
    let before = left_out(from);
    let after = match text.len() - end {
        0 => String::new(),
        count => format!(" (… {count} more bytes)"),
    };
    format!("{before}{}{after}", text::quoted(&text[from..end]))
}

fn line_diff(actual: &[u8], expected: &[u8]) -> String {
    let (actual, expected) = match (plain_lines(actual), plain_lines(expected)) {
        (Some(actual), Some(expected)) => (actual.to_owned(), expected.to_owned()),
        _ => (escaped_lines(actual), escaped_lines(expected)),
    };
    let diff = TextDiff::configure()
        .timeout(TIMEOUT)
        .diff_lines(expected.as_str(), actual.as_str());
    let diff = diff
        .unified_diff()
        .context_radius(RADIUS)
        .header("expected", "actual")
        .to_string();
    let mut lines = diff.lines();
    let mut shown: Vec<String> = lines
        .by_ref()
        .take(MAX_LINES)
        .map(|line| text::cut(line, MAX_LINE))
        .collect();
    let more = lines.count();
    if more > 0 {
        shown.push(format!("… {more} more lines of the diff"));
    }
    shown.join("\n")
}

/// The text as it is, if what it holds can be seen.
fn plain_lines(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    let is_seen = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
    text.chars().all(is_seen).then_some(text)
}

/// The text with everything else in its lines escaped, as in a Lua string.
fn escaped_lines(text: &[u8]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let (line, end) = match line.strip_suffix(b"\n") {
            Some(line) => (line, "\n"),
            None => (line, ""),
        };
        let quoted = text::quoted(line);
        escaped.push_str(&quoted[1..quoted.len() - 1]);
        escaped.push_str(end);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lines_need_no_description() {
        assert_eq!(describe(b"a", b"b"), None);
        assert_eq!(describe(b"a\n", b"a\n"), None);
    }

    #[test]
    fn texts_that_differ_in_their_last_line() {
        let text = |end: &str| {
            (1..=200)
                .map(|n| format!("key{n} = {n}\n"))
                .collect::<String>()
                + end
        };
        let (actual, expected) = (text("last = 1\n"), text("last = 2\n"));
        let shown = describe(actual.as_bytes(), expected.as_bytes()).unwrap();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].contains("(line 201, column 8)"), "{shown}");
        assert_eq!(lines[1..3], ["--- expected", "+++ actual"]);
        assert_eq!(
            lines[4..],
            [
                " key198 = 198",
                " key199 = 199",
                " key200 = 200",
                "-last = 2",
                "+last = 1"
            ]
        );
    }

    #[test]
    fn a_missing_end_of_a_line_is_shown() {
        let shown = describe(b"a", b"a\n").unwrap();
        assert!(shown.contains("actual has 1 bytes, expected 2"), "{shown}");
        assert!(shown.contains("\\ No newline at end of file"), "{shown}");
    }

    #[test]
    fn bytes_that_cannot_be_seen_are_escaped() {
        let shown = describe(b"one\ntwo\xff\n", b"one\ntwo\xfe\n").unwrap();
        assert!(shown.contains("-two\\xfe\n+two\\xff"), "{shown}");
        let shown = describe(b"one\r\n", b"one\n").unwrap();
        assert!(shown.contains("-one\n+one\\r"), "{shown}");
    }

    #[test]
    fn a_long_line_is_shown_around_the_difference() {
        let (actual, expected) = ("x".repeat(1000) + "a", "x".repeat(1000) + "b");
        let shown = describe(actual.as_bytes(), expected.as_bytes()).unwrap();
        let x = "x".repeat(CONTEXT);
        assert!(
            shown.contains(&format!("  actual:   (940 bytes …) \"{x}a\"")),
            "{shown}"
        );
        assert!(
            shown.contains(&format!("  expected: (940 bytes …) \"{x}b\"")),
            "{shown}"
        );
    }

    #[test]
    fn a_cut_text_has_the_number_of_missing_bytes() {
        let text = |word: &str| {
            (0..1000)
                .map(|n| format!("{word} {n}\n"))
                .collect::<String>()
        };
        let shown = describe(text("a").as_bytes(), text("b").as_bytes()).unwrap();
        assert_eq!(shown.lines().count(), 1 + MAX_LINES + 1);
        assert!(shown.ends_with("more lines of the diff"), "{shown}");
    }
}
