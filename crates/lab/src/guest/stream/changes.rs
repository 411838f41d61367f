//! Changes of the file of a stream, in words.

use provium_guest::ChangeList;
use provium_protocol::op::NoticeKind;
use std::fmt::Write as _;

/// How many changes a message lists.
const SHOWN: usize = 3;

/// The changes, for the end of a sentence; empty if there were none.
pub(super) fn describe(changes: &ChangeList) -> String {
    if changes.total == 0 {
        return String::new();
    }
    let first = changes.last.len().saturating_sub(SHOWN);
    let shown = changes.last.iter().skip(first).map(|change| {
        let what = match change.kind {
            NoticeKind::Opened => "opened",
            NoticeKind::Truncated => "truncated",
            NoticeKind::Rewritten => "rewritten",
            NoticeKind::Replaced => "replaced by another one",
            NoticeKind::Removed => "removed or renamed",
        };
        format!("{what} after {} bytes of this stream", change.at)
    });
    let mut text = format!("; the file was {}", shown.collect::<Vec<_>>().join(", "));
    let others = changes.total - (changes.last.len() - first) as u64;
    if others > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, " (earlier changes: {others})");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_protocol::op::StreamNotice;

    fn after(count: u64) -> String {
        let last = (0..count).map(|at| StreamNotice {
            kind: NoticeKind::Truncated,
            at,
        });
        describe(&ChangeList {
            last: last.collect(),
            total: count,
        })
    }

    #[test]
    fn the_last_changes_are_listed_and_the_others_counted() {
        assert_eq!(after(0), "");
        assert_eq!(
            after(1),
            "; the file was truncated after 0 bytes of this stream"
        );
        let many = after(7);
        assert!(many.contains("after 4 bytes"), "{many}");
        assert!(!many.contains("after 3 bytes"), "{many}");
        assert!(many.ends_with("(earlier changes: 4)"), "{many}");
    }
}
