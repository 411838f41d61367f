//! Markdown, as far as rules and snippets need it: fenced blocks, headings, links.

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fence<'a> {
    /// What follows the opening fence, as `lua` or `lua,ignore`.
    pub(crate) info: &'a str,
    /// Number of its first line of content, counted from 1.
    pub(crate) line: usize,
    /// Its lines.
    pub(crate) lines: Vec<&'a str>,
}

/// A line outside of every fence, with its number counted from 1.
pub(crate) type Line<'a> = (usize, &'a str);

/// Takes a page apart into its fenced blocks and the lines between them.
pub(crate) fn split(text: &str) -> (Vec<Fence<'_>>, Vec<Line<'_>>) {
    let (mut fences, mut prose) = (Vec::new(), Vec::new());
    let mut open: Option<Fence<'_>> = None;
    for (index, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(info)) => {
                open = Some(Fence {
                    info: info.trim(),
                    line: index + 2,
                    lines: Vec::new(),
                });
            }
            (Some(_), Some("")) => fences.extend(open.take()),
            (Some(block), _) => block.lines.push(line),
            (None, None) => prose.push((index + 1, line)),
        }
    }
    fences.extend(open);
    (fences, prose)
}

/// The targets of the links in a line: `[text](target)`. Code spans are passed over.
pub(crate) fn links(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    // Every second piece between backticks is code. A link's text may be code: its target then
    // follows in the next piece.
    for prose in line.split('`').step_by(2) {
        for (at, _) in prose.match_indices("](") {
            let rest = &prose[at + 2..];
            if let Some(end) = rest.find(')') {
                found.push(&rest[..end]);
            }
        }
    }
    found
}

/// The anchors of a page's headings, as they are made on the usual hosts.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    let (_, prose) = split(text);
    let headings = prose.into_iter().filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then_some(title.trim())
    });
    headings.map(anchor).collect()
}

fn anchor(title: &str) -> String {
    let kept = title
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| {
        if c == ' ' {
            '-'
        } else {
            c.to_ascii_lowercase()
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_and_prose_part() {
        let (fences, prose) = split("# A\n```lua\nx = 1\n```\nend\n```\nplain\n```\n");
        assert_eq!(fences.len(), 2);
        assert_eq!(
            fences[0],
            Fence {
                info: "lua",
                line: 3,
                lines: vec!["x = 1"]
            }
        );
        assert_eq!(fences[1].info, "");
        assert_eq!(prose, [(1, "# A"), (5, "end")]);
    }

    #[test]
    fn links_are_found_also_behind_code() {
        assert_eq!(
            links("see [a](b.md) and [`c`](d.md#e), not `[x](y)`"),
            ["b.md", "d.md#e"]
        );
    }

    #[test]
    fn anchors_are_lower_case_words() {
        assert_eq!(
            anchors("# The `vm:run(x)` call\n## A, b\n"),
            ["the-vmrunx-call", "a-b"]
        );
    }
}
