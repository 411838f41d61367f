//! Classes of characters, as C's `ctype.h` has them in the C locale.

/// Whether `c` is of the class that `%` and `class` stand for.
pub(super) fn is_of_class(c: u8, class: u8) -> bool {
    let member = match class.to_ascii_lowercase() {
        b'a' => c.is_ascii_alphabetic(),
        b'c' => c.is_ascii_control(),
        b'd' => c.is_ascii_digit(),
        b'g' => c.is_ascii_graphic(),
        b'l' => c.is_ascii_lowercase(),
        b'p' => c.is_ascii_punctuation(),
        b's' => matches!(c, b' ' | b'\t'..=b'\r'),
        b'u' => c.is_ascii_uppercase(),
        b'w' => c.is_ascii_alphanumeric(),
        b'x' => c.is_ascii_hexdigit(),
        b'z' => c == 0,
        _ => return class == c,
    };
    member == class.is_ascii_lowercase()
}

/// Whether `c` is in the set `set`, a pattern's part from `[` to before its closing `]`.
pub(super) fn is_in_set(c: u8, set: &[u8]) -> bool {
    let at = |index: usize| set.get(index).copied().unwrap_or(b']');
    let mut p = 0;
    let mut found = true;
    if at(1) == b'^' {
        found = false;
        p = 1;
    }
    loop {
        p += 1;
        if p >= set.len() {
            return !found;
        }
        if at(p) == b'%' {
            p += 1;
            if is_of_class(c, at(p)) {
                return found;
            }
        } else if at(p + 1) == b'-' && p + 2 < set.len() {
            p += 2;
            if at(p - 2) <= c && c <= at(p) {
                return found;
            }
        } else if at(p) == c {
            return found;
        }
    }
}
