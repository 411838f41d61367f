//! The head of a kernel's trace on a console: what it reports first says what went wrong; the registers and
//! the calls come after it.

use crate::engine::cut::more_lines;
use crate::text;

/// Lines shown before the first line of the report.
const BEFORE: usize = 10;
/// Lines shown from the first line of the report on.
const AFTER: usize = 30;
/// Longest line shown, characters.
const MAX_LINE: usize = 400;

/// The lines of `console` around `report`, the first line of a kernel's report. Empty if it is not there. If there are
/// more, `file` gives the path of all of them.
pub(super) fn head(
    console: &[u8],
    report: &str,
    file: impl FnOnce() -> Option<String>,
) -> Vec<String> {
    let text = text::display(console).replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    let Some(at) = lines.iter().position(|line| line.contains(report)) else {
        return Vec::new();
    };
    let from = at.saturating_sub(BEFORE);
    let end = lines.len().min(at + AFTER);
    let shown = lines[from..end].iter();
    let mut shown: Vec<String> = shown
        .map(|line| format!("  | {}", text::cut(line, MAX_LINE)))
        .collect();
    if end < lines.len() {
        let note = more_lines(lines.len() - end, "", file().as_deref());
        shown.push(format!("  | {note}"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_around_the_start_of_a_report_are_shown() {
        let before: String = (0..50).map(|n| format!("[ 1.0] line {n}\r\n")).collect();
        let after: String = (0..100).map(|n| format!("[ 2.0] call {n}\r\n")).collect();
        let console = format!("{before}[ 1.5] BUG: it broke\r\n{after}");
        let shown = head(console.as_bytes(), "BUG: it broke", || {
            Some("f.txt".to_owned())
        });
        assert_eq!(shown.len(), BEFORE + AFTER + 1);
        assert_eq!(shown[0], "  | [ 1.0] line 40");
        assert_eq!(shown[BEFORE], "  | [ 1.5] BUG: it broke");
        assert_eq!(shown[BEFORE + 1], "  | [ 2.0] call 0");
        assert_eq!(shown.last().unwrap(), "  | … 71 more lines in f.txt");
        assert!(head(console.as_bytes(), "Oops", || None).is_empty());
    }
}
