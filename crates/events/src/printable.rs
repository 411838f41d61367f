//! Makes text from tests, guests and names safe for a terminal.
//!
//! The one place that decides what a terminal receives: text that is not the harness's own passes through
//! here before it is shown.

use std::fmt::Write as _;

/// `text` without what would move a terminal's cursor or change its colours; line breaks are kept.
///
/// Carriage returns before a line's end (consoles are full of them) and colour and cursor sequences are
/// removed, other control characters are shown as `\xNN`.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\n' | '\t' => out.push(character),
            '\r' if matches!(rest.peek(), None | Some('\n' | '\r')) => {}
            '\x1b' if rest.peek() == Some(&'[') => {
                rest.next();
                // ECMA-48, 5.4: parameters and intermediates, then one byte from @ to ~ ends it.
                while rest.next_if(|next| matches!(next, ' '..='?')).is_some() {}
                rest.next_if(|next| matches!(next, '@'..='~'));
            }
            control if control.is_control() => escape(&mut out, control),
            plain => out.push(plain),
        }
    }
    out
}

/// A name, a reason or another text that has to stay on one line: line breaks are escaped as well, so
/// that it cannot pass for a line of the report.
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Line and paragraph separators.
            '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
            }
            control if control.is_control() => escape(&mut out, control),
            plain => out.push(plain),
        }
    }
    out
}

/// Text for a terminal as a whole, the harness's own colours in it: line ends, tabs and, with
/// `colours`, colour sequences pass, every other control character is escaped. The last
/// filter before the terminal, not a substitute for [`clean`].
pub fn for_terminal(text: &str, colours: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\n' && c != '\t') {
        let (plain, from) = rest.split_at(at);
        out.push_str(plain);
        let colour = if colours { colour_length(from) } else { 0 };
        if colour > 0 {
            let (sequence, after) = from.split_at(colour);
            out.push_str(sequence);
            rest = after;
        } else {
            let mut characters = from.chars();
            if let Some(control) = characters.next() {
                escape(&mut out, control);
            }
            rest = characters.as_str();
        }
    }
    out.push_str(rest);
    out
}

/// The bytes as text; those that are not UTF-8 are shown as `\xNN`.
pub fn text_of(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// JSON text without a control character, escaped as JSON escapes them. All that are left in it are
/// within strings.
pub fn json(text: String) -> String {
    if !text.chars().any(char::is_control) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

fn escape(out: &mut String, control: char) {
    let _ = write!(out, "\\x{:02x}", u32::from(control));
}

/// How long the colour sequence (ECMA-48, 8.3.117) is that `text` begins with, bytes; 0 for none.
fn colour_length(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\x1b[") else {
        return 0;
    };
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';');
    match end {
        Some(end) if parameters[end..].starts_with('m') => "\x1b[".len() + end + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_guest_prints_reaches_the_terminal_as_a_command() {
        assert_eq!(
            clean("a\r\nb\x1b[31;1mred\x1b[0m\x07\x1b]0;x"),
            "a\nbred\\x07\\x1b]0;x"
        );
        assert_eq!(clean("50%\r100%"), "50%\\x0d100%");
        assert_eq!(clean("\x1b["), "");
        assert_eq!(clean("\u{9b}31m\u{7f}"), "\\x9b31m\\x7f");
    }

    #[test]
    fn a_name_stays_on_its_line() {
        assert_eq!(
            one_line("one\nPASS forged\r\x1b[1A\u{2028}é"),
            "one\\nPASS forged\\r\\x1b[1A\\u{2028}é"
        );
    }

    #[test]
    fn of_what_is_written_only_colours_pass() {
        let text = "\x1b[1;31mred\x1b[0m\x1b]0;title\x07\x1b[2J\n";
        assert_eq!(
            for_terminal(text, true),
            "\x1b[1;31mred\x1b[0m\\x1b]0;title\\x07\\x1b[2J\n"
        );
        assert_eq!(
            for_terminal(text, false),
            "\\x1b[1;31mred\\x1b[0m\\x1b]0;title\\x07\\x1b[2J\n"
        );
        assert_eq!(for_terminal("\x1b[", true), "\\x1b[");
    }

    #[test]
    fn bytes_that_are_not_text_are_shown() {
        assert_eq!(text_of(b"a\xffb\xc3\xa9\xc3"), "a\\xffbé\\xc3");
    }

    #[test]
    fn cleaned_json_has_the_same_meaning() {
        assert_eq!(
            json("{\"a\":\"\u{9b}\u{7f}\"}".into()),
            r#"{"a":"\u009b\u007f"}"#
        );
    }
}
