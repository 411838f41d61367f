//! The first match in a text, as `string.match` looks for it.

use super::matcher::{Capture, Matcher, PatternError, has_specials};

/// A match of a pattern.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FoundMatch {
    /// Where it begins, from 0.
    pub(crate) start: usize,
    /// Where it ends.
    pub(crate) end: usize,
    /// What its captures hold; empty if the pattern has none.
    pub(crate) captures: Vec<Capture>,
}

impl FoundMatch {
    /// What its captures hold; the whole match if the pattern has none.
    pub(crate) fn captures_or_whole(self) -> Vec<Capture> {
        match self.captures.is_empty() {
            true => vec![Capture::Text(self.start, self.end)],
            false => self.captures,
        }
    }
}

/// The first match of `pattern` that begins at `from` or later. `go_on` is called at regular
/// intervals, and ends the search with its error.
///
/// # Errors
/// The mistake of a malformed pattern, and what `go_on` returns.
pub(crate) fn first_match<E>(
    text: &[u8],
    pattern: &[u8],
    from: usize,
    go_on: impl FnMut() -> Result<(), E>,
) -> Result<Option<FoundMatch>, PatternError<E>> {
    // A plain text.
    if !has_specials(pattern) && !pattern.contains(&b')') {
        let found = memchr::memmem::find(&text[from..], pattern);
        return Ok(found.map(|at| FoundMatch {
            start: from + at,
            end: from + at + pattern.len(),
            captures: Vec::new(),
        }));
    }
    let (last, pattern) = match pattern.strip_prefix(b"^") {
        Some(rest) => (from, rest),
        None => (text.len(), pattern),
    };
    let mut matcher = Matcher::new(text, pattern, go_on);
    for start in from..=last {
        if let Some(end) = matcher.match_at(start)? {
            let captures = (0..matcher.levels()).map(|index| matcher.capture(index, start, end));
            let captures = captures.collect::<Result<_, _>>()?;
            return Ok(Some(FoundMatch {
                start,
                end,
                captures,
            }));
        }
    }
    Ok(None)
}
