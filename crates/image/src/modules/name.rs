//! Names and alias patterns, as `modprobe(8)` compares them.

/// `-` and `_` are the same in a module's name.
pub(super) fn normalized(name: &str) -> String {
    name.replace('-', "_")
}

/// As [`normalized`], but text in brackets is a set of characters and stays.
pub(super) fn normalized_alias(alias: &str) -> String {
    let mut in_set = false;
    let step = |c: char| {
        match c {
            '[' => in_set = true,
            ']' => in_set = false,
            _ => (),
        }
        if c == '-' && !in_set { '_' } else { c }
    };
    alias.chars().map(step).collect()
}

/// Whether a pattern has to be matched, and cannot just be looked up.
pub(super) fn is_pattern(alias: &str) -> bool {
    alias.contains(['*', '?', '[', '\\'])
}

/// `fnmatch(3)` without flags: `*`, `?`, `[a-z]`, `[!a]`, `\x`. Takes time in proportion to the
/// product of both lengths at most, whatever the pattern.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to continue if the rest does not match: behind the last star, one byte further.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        match one(&pattern[p..], text[t]) {
            Some(length) => {
                p += length;
                t += 1;
            }
            None => match &mut star {
                None => return false,
                Some((after, from)) => {
                    *from += 1;
                    (p, t) = (*after, *from);
                }
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// How long the part of the pattern is that matches `byte`; `None` if it does not.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', rest @ ..] => set(rest, byte).map(|length| length + 1),
        [plain, ..] => (*plain == byte).then_some(1),
    }
}

/// A set, behind its opening bracket. One that is not closed matches nothing.
fn set(pattern: &[u8], byte: u8) -> Option<usize> {
    let negated = matches!(pattern.first(), Some(b'!' | b'^'));
    let mut at = usize::from(negated);
    let first = at;
    let mut found = false;
    loop {
        match pattern.get(at..)? {
            [] => return None,
            [b']', ..] if at > first => break,
            [low, b'-', high, ..] if *high != b']' => {
                found |= (*low..=*high).contains(&byte);
                at += 3;
            }
            [single, ..] => {
                found |= *single == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_modprobe_does() {
        for (pattern, text, expected) in [
            (
                "pci:v00001AF4d*sv*sd*bc*sc*i*",
                "pci:v00001AF4d00001003sv0sd0bc07sc80i00",
                true,
            ),
            ("pci:v00001AF4d*", "pci:v00001AF5d00001003", false),
            ("virtio:d00000003v*", "virtio:d00000003v00001AF4", true),
            ("of:N*T*Cfoo,bar", "of:NxTyCfoo,bar", true),
            ("of:N*T*Cfoo,bar", "of:NxTyCfoo,barC", false),
            ("usb:v05ACp[0-9]*", "usb:v05ACp8600", true),
            ("a[!0-9]c", "a5c", false),
            ("a[!0-9]c", "abc", true),
            ("a[]x]c", "a]c", true),
            ("a[b", "ab", false),
            ("\\*", "*", true),
            ("*", "", true),
            ("", "", true),
            ("a?", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert_eq!(normalized("virtio-rng"), "virtio_rng");
        assert_eq!(normalized_alias("fs-x[a-z]-y"), "fs_x[a-z]_y");
    }

    #[test]
    fn many_stars_do_not_slow_a_match() {
        assert!(!matches(&"*a".repeat(200), &"b".repeat(2000)));
    }

    proptest! {
        #[test]
        fn a_text_without_signs_matches_itself_and_its_prefix_with_a_star(text in "[a-z0-9:]{0,30}") {
            prop_assert!(matches(&text, &text));
            let prefix = format!("{}*", &text[..text.len() / 2]);
            prop_assert!(matches(&prefix, &text));
        }

        #[test]
        fn nothing_panics(pattern in ".{0,30}", text in ".{0,30}") {
            let _ = matches(&pattern, &text);
        }
    }
}
