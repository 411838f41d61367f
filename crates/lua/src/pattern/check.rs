//! Whether a pattern is well-formed, without a text to match.
//!
//! The matcher finds a mistake when it comes to it, which depends on the text. A pattern has no alternatives, so what
//! precedes a place in it, and thus which captures are open there, does not depend on the text.

use super::matcher::{MAX_CAPTURES, class_end};

/// Checks a pattern as `string.match` takes it, with the `^` of an anchor.
///
/// # Errors
/// The first mistake, in the words of Lua.
pub(crate) fn check(pattern: &[u8]) -> Result<(), String> {
    let pattern = pattern.strip_prefix(b"^").unwrap_or(pattern);
    // Whether each capture so far is closed.
    let mut captures: Vec<bool> = Vec::new();
    let mut at = 0;
    while let Some(byte) = pattern.get(at) {
        let next = pattern.get(at + 1);
        match (byte, next) {
            (b'(', _) => {
                if captures.len() == MAX_CAPTURES {
                    return Err("too many captures".to_owned());
                }
                let is_position = next == Some(&b')');
                captures.push(is_position);
                at += if is_position { 2 } else { 1 };
            }
            (b')', _) => {
                let open = captures.iter_mut().rev().find(|closed| !**closed);
                *open.ok_or("invalid pattern capture")? = true;
                at += 1;
            }
            (b'%', Some(b'b')) => {
                if at + 3 >= pattern.len() {
                    return Err("malformed pattern (missing arguments to '%b')".to_owned());
                }
                at += 4;
            }
            (b'%', Some(b'f')) => {
                if pattern.get(at + 2) != Some(&b'[') {
                    return Err("missing '[' after '%f' in pattern".to_owned());
                }
                at = class_end(pattern, at + 2)?;
            }
            (b'%', Some(digit)) if digit.is_ascii_digit() => {
                let number = usize::from(digit - b'0');
                let is_closed = number.checked_sub(1).and_then(|index| captures.get(index));
                if is_closed != Some(&true) {
                    return Err(format!("invalid capture index %{number}"));
                }
                at += 2;
            }
            _ => {
                at = class_end(pattern, at)?;
                at += usize::from(matches!(pattern.get(at), Some(b'*' | b'+' | b'-' | b'?')));
            }
        }
    }
    match captures.contains(&false) {
        true => Err("unfinished capture".to_owned()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Matcher, PatternError};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mistakes_are_found_without_a_text() {
        for (pattern, mistake) in [
            ("hello (%w+", "unfinished capture"),
            ("a)b.", "invalid pattern capture"),
            ("x)", "invalid pattern capture"),
            ("[a", "malformed pattern (missing ']')"),
            ("x%", "malformed pattern (ends with '%')"),
            ("%bx", "malformed pattern (missing arguments to '%b')"),
            ("%fx", "missing '[' after '%f' in pattern"),
            ("(a%1)", "invalid capture index %1"),
            ("%0", "invalid capture index %0"),
            (&"()".repeat(33), "too many captures"),
        ] {
            assert_eq!(
                check(pattern.as_bytes()),
                Err(mistake.to_owned()),
                "{pattern}"
            );
        }
        for pattern in [
            "",
            "^(%w+)=(%d-)$",
            "%b()",
            "%f[%w]%w+",
            "(a)%1",
            "[]]",
            "[^]]*",
            "a-",
            "$",
            "-",
        ] {
            assert_eq!(check(pattern.as_bytes()), Ok(()), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn the_matcher_finds_no_others(
            pattern in proptest::collection::vec(proptest::sample::select(&b"()%[]^bf12a*-$."[..]), 0..12),
            text in proptest::collection::vec(proptest::sample::select(&b"ab()[]"[..]), 0..8),
        ) {
            let unanchored = pattern.strip_prefix(b"^").unwrap_or(&pattern);
            let mut matcher = Matcher::new(&text, unanchored, || Ok::<(), ()>(()));
            for start in 0..=text.len() {
                let found = matcher.match_at(start).and_then(|end| {
                    let Some(end) = end else { return Ok(()) };
                    (0..matcher.levels()).try_for_each(|index| matcher.capture(index, start, end).map(drop))
                });
                match found {
                    Ok(()) => {}
                    Err(PatternError::Bad(mistake)) => {
                        prop_assert_eq!(check(&pattern), Err(mistake));
                    }
                    Err(PatternError::Stopped(())) => {}
                }
            }
        }
    }
}
