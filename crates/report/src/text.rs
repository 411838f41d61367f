//! Text that came from tests and guests, made fit for a terminal.

use std::fmt::Write as _;

/// `text` without what would move a terminal's cursor or change its colours.
///
/// Carriage returns before a line's end go (consoles are full of them), escape sequences go, other
/// control characters are shown as `\xNN`.
pub(crate) fn clean(text: &str) -> String {
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
            control if control.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
    out
}

/// `text` with `by` spaces in front of every line that has something in it, and a line end.
pub(crate) fn indented(text: &str, by: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', by));
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

/// The last `count` lines, and how many there are before them.
pub(crate) fn tail(text: &str, count: usize) -> (usize, Vec<&str>) {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let skipped = lines.len().saturating_sub(count);
    (skipped, lines.into_iter().skip(skipped).collect())
}

/// A duration in seconds, with so many digits after the point.
pub(crate) fn seconds(duration_ns: u64, digits: usize) -> String {
    let seconds = duration_ns as f64 / 1e9;
    format!("{seconds:.digits$}s")
}

/// A size in the largest binary unit that divides it.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("G", 30_u32), ("M", 20), ("K", 10)];
    for (unit, shift) in units {
        if bytes >= 1 << shift && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
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
    }

    #[test]
    fn sizes_are_exact() {
        assert_eq!(size(256 << 20), "256M");
        assert_eq!(size(1 << 30), "1G");
        assert_eq!(size(1000), "1000 bytes");
        assert_eq!(size(0), "0 bytes");
    }
}
