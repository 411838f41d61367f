//! Bytes as readable text.
//!
//! What a guest printed, and what Lua calls a string, is bytes. Reports and events are UTF-8. Bytes
//! that are not UTF-8 are written as `\xNN`, so that nothing is lost and different values look
//! different.

pub(crate) use provium_events::printable::text_of as display;
use std::fmt::Write as _;

/// A byte that would be escaped is written with its count if it is repeated this often.
const LONG_RUN: usize = 16;

/// The bytes as a Lua expression: a string literal, or several with `("\x00"):rep(512)` for repeated bytes between
/// them. Different bytes always give different texts.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    let mut literal = 0;
    let mut at = 0;
    for run in bytes.chunk_by(|one, other| one == other) {
        let start = at;
        at += run.len();
        let is_escaped = run[0].is_ascii_control() || !run[0].is_ascii();
        if run.len() < LONG_RUN || !is_escaped {
            continue;
        }
        if literal < start {
            push_literal(&mut text, &bytes[literal..start]);
            text.push_str(" .. ");
        }
        text.push('(');
        push_literal(&mut text, &run[..1]);
        // Writing to a string does not fail.
        let _ = write!(text, "):rep({})", run.len());
        literal = at;
        if literal < bytes.len() {
            text.push_str(" .. ");
        }
    }
    if literal < bytes.len() || bytes.is_empty() {
        push_literal(&mut text, &bytes[literal..]);
    }
    text
}

fn push_literal(text: &mut String, bytes: &[u8]) {
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                c if c.is_ascii_control() => push_hex(text, &[c as u8]),
                c if c.is_ascii() => text.push(c),
                // Marks and unprintable characters, which look alike otherwise.
                c => text.extend(c.escape_debug()),
            }
        }
        push_hex(text, chunk.invalid());
    }
    text.push('"');
}

/// Whether the bytes, written without quotes, could be taken for something else.
pub(crate) fn needs_quotes(bytes: &[u8]) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            text.is_empty()
                || text.trim() != text
                || text.contains("\\x")
                || text.chars().any(|c| {
                    c.is_control() || (!c.is_ascii() && c.escape_debug().next() == Some('\\'))
                })
        }
        Err(_) => true,
    }
}

/// The text, cut after `limit` characters; says how many are left out.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => {
            let more = text[end..].chars().count();
            format!("{}… ({more} more characters)", &text[..end])
        }
        None => text.to_owned(),
    }
}

/// The end of the text, `limit` characters of it; says how many are left out before, and in which file they are.
pub(crate) fn tail(text: &str, limit: usize, file: Option<&str>) -> String {
    let count = text.chars().count();
    match text.char_indices().nth(count.saturating_sub(limit)) {
        Some((start, _)) if start > 0 => {
            let more = count - limit;
            let place = file.map_or("before".to_owned(), |file| format!("in {file}"));
            format!("(… {more} more characters {place})\n{}", &text[start..])
        }
        _ => text.to_owned(),
    }
}

/// The text, without its middle where it is longer than `limit` bytes; says how much is left out.
pub(crate) fn without_middle(text: String, limit: usize) -> String {
    if text.len() <= limit {
        return text;
    }
    let boundary = |at: usize| {
        (0..=at)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0)
    };
    let (head, tail) = (boundary(limit / 2), boundary(text.len() - limit / 2));
    format!(
        "{}\n… {} bytes are left out …\n{}",
        &text[..head],
        tail - head,
        &text[tail..]
    )
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_outside_utf8_are_kept() {
        assert_eq!(display(b"abc\xff\xc3\xa4\xc3"), "abc\\xffä\\xc3");
        assert_eq!(
            quoted(b"a\"\\\n\x1b\xff\xc3\xa4"),
            "\"a\\\"\\\\\\n\\x1b\\xffä\""
        );
        assert_ne!(quoted(b"\xff"), quoted(b"\\xff"));
        assert_ne!(quoted("e\u{301}".as_bytes()), quoted("é".as_bytes()));
    }

    #[test]
    fn repeated_bytes_are_counted() {
        assert_eq!(quoted(&[0; 512]), r#"("\x00"):rep(512)"#);
        assert_eq!(quoted(&[b'\n'; 16]), r#"("\n"):rep(16)"#);
        let mixed = [b"ab", &[0xff; 16][..], &[0; 20], b"c"].concat();
        assert_eq!(
            quoted(&mixed),
            r#""ab" .. ("\xff"):rep(16) .. ("\x00"):rep(20) .. "c""#
        );
        assert_eq!(quoted(&[0; 15]), format!("\"{}\"", "\\x00".repeat(15)));
        assert_eq!(quoted(&[b'x'; 20]), format!("\"{}\"", "x".repeat(20)));
        assert_eq!(quoted(b""), "\"\"");
    }

    #[test]
    fn quotes_where_a_value_could_be_mistaken() {
        for clear in ["a", "a b", "a\\b", "ä"] {
            assert!(!needs_quotes(clear.as_bytes()), "{clear}");
        }
        for odd in [
            &b""[..],
            b" a",
            b"a\n",
            b"\xff",
            b"\\xff",
            b"a\x1b",
            "e\u{301}".as_bytes(),
        ] {
            assert!(needs_quotes(odd), "{odd:?}");
        }
    }

    #[test]
    fn a_cut_text_has_the_number_of_missing_bytes() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcdef", 3), "abc… (3 more characters)");
        assert_eq!(tail("abc", 3, None), "abc");
        assert_eq!(tail("", 3, None), "");
        assert_eq!(tail("äbcdef", 3, None), "(… 3 more characters before)\ndef");
        assert_eq!(
            tail("äbcdef", 3, Some("f.txt")),
            "(… 3 more characters in f.txt)\ndef"
        );
        assert_eq!(
            without_middle("ä".repeat(10), 8),
            "ää\n… 12 bytes are left out …\nää"
        );
    }
}
