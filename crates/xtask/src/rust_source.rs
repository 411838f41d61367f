//! Rust text, seen the way rules need it: without comments, without strings, without tests.
//!
//! A lexer of just what hides text (comments, string and character literals); everything else
//! passes through. What is hidden becomes blanks, so lines keep their numbers. It does not parse.

/// What to blank out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hide {
    /// Code, so that comments and literals remain.
    Code,
    /// Comments.
    Comments,
    /// Comments and the insides of literals.
    CommentsAndStrings,
}

/// The text with the given parts replaced by blanks.
pub(crate) fn hide(text: &str, what: Hide) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (end, hidden) = token(bytes, at);
        let blank = match hidden {
            Token::Code => what == Hide::Code,
            Token::Comment => what != Hide::Code,
            Token::Literal => what == Hide::CommentsAndStrings,
        };
        if blank {
            for byte in &mut out[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at = end;
    }
    // Only whole characters are replaced: a run of code is replaced byte by byte, any other token
    // begins and ends at a character boundary.
    String::from_utf8_lossy(&out).into_owned()
}

enum Token {
    Code,
    Comment,
    Literal,
}

/// The end of the token at `at`, which is past it.
fn token(bytes: &[u8], at: usize) -> (usize, Token) {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        let len = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
        return (at + len, Token::Comment);
    }
    if rest.starts_with(b"/*") {
        return (at + block_comment(rest), Token::Comment);
    }
    match rest[0] {
        b'"' => (at + quoted(rest, b'"'), Token::Literal),
        b'\'' => match character(rest) {
            Some(len) => (at + len, Token::Literal),
            None => (at + 1, Token::Code),
        },
        b'r' if !after_word(bytes, at) => match raw_string(rest) {
            Some(len) => (at + len, Token::Literal),
            None => (at + 1, Token::Code),
        },
        _ => (at + 1, Token::Code),
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Length of a literal that runs from one quote to the next that no backslash precedes.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of a character literal; `None` for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    match rest.get(1)? {
        b'\\' => Some(quoted(rest, b'\'')),
        _ => {
            // One character of up to four bytes, then the quote.
            let close = rest.iter().skip(2).take(4).position(|&b| b == b'\'')? + 2;
            let one = str::from_utf8(&rest[1..close]).is_ok_and(|s| s.chars().count() == 1);
            one.then_some(close + 1)
        }
    }
}

/// Length of a raw string, `r"…"` or `r##"…"##`; `None` where an `r` begins something else.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&b| b == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.extend(std::iter::repeat_n(b'#', hashes));
    let body = 2 + hashes;
    let len = rest[body..].windows(end.len()).position(|w| w == end)?;
    Some(body + len + end.len())
}

/// Whether a word's character, other than the `b` or `c` of a literal's prefix, precedes `at`.
fn after_word(bytes: &[u8], at: usize) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match at.checked_sub(1).map(|i| bytes[i]) {
        Some(b'b' | b'c') => at >= 2 && is_word(bytes[at - 2]),
        Some(byte) => is_word(byte),
        None => false,
    }
}

/// How many lines precede the file's tests; all of them when it has none.
pub(crate) fn lines_before_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let is_tests = |at: usize| {
        let next = lines[at + 1..].iter().find(|line| !line.starts_with("#["));
        lines[at] == "#[cfg(test)]" && next.is_some_and(|line| line.starts_with("mod "))
    };
    (0..lines.len())
        .find(|&at| is_tests(at))
        .unwrap_or(lines.len())
}

/// Whether `line` contains `word` with no letter, digit or `_` before or after it.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(is_word) && !line[at + word.len()..].starts_with(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        hide(text, Hide::CommentsAndStrings)
    }

    #[test]
    fn comments_and_literals_become_blank() {
        assert_eq!(code("a // unsafe\nb"), "a          \nb");
        assert_eq!(code("a /* x /* y */ z */ b"), "a                   b");
        assert_eq!(
            code(r#"f("a\"unsafe", 'x', '\'')"#).replace(' ', ""),
            "f(,,)"
        );
        assert_eq!(
            code("r#\"un\"safe\"# + br\"x\" + r").replace(' ', ""),
            "+b+r"
        );
        assert_eq!(code("for r in x {}"), "for r in x {}");
    }

    #[test]
    fn lifetimes_are_code() {
        assert_eq!(
            code("fn f<'a>(x: &'a str) -> &'a str"),
            "fn f<'a>(x: &'a str) -> &'a str"
        );
        assert_eq!(code("'ä' as u32").trim(), "as u32");
    }

    #[test]
    fn strings_may_be_kept() {
        assert_eq!(
            hide("f(\"x // y\") // z", Hide::Comments).trim_end(),
            "f(\"x // y\")"
        );
    }

    #[test]
    fn comments_and_strings_can_be_kept_alone() {
        assert_eq!(
            hide("f('ä, \"x y\") // z\né", Hide::Code),
            "       \"x y\"  // z\n  ",
            "a lifetime's tick and `ä` are three bytes of code"
        );
    }

    #[test]
    fn lines_end_where_they_did() {
        let text = "/* a\nb */ c \"d\ne\"\n";
        assert_eq!(code(text).lines().count(), text.lines().count());
    }

    #[test]
    fn tests_are_a_module() {
        assert_eq!(
            lines_before_tests("a\nb\n#[cfg(test)]\nmod tests {\n}\n"),
            2
        );
        assert_eq!(
            lines_before_tests("a\n#[cfg(test)]\n#[path = \"x\"]\nmod tests;\n"),
            1
        );
        assert_eq!(
            lines_before_tests("a\n#[cfg(test)]\nuse b;\nc\n"),
            4,
            "not the tests' module"
        );
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("unsafe {", "unsafe"));
        assert!(!has_word("deny(unsafe_code)", "unsafe"));
        assert!(!has_word("eprintln!(", "println!"));
    }
}
