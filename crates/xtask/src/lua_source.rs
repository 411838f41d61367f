//! Lua text, seen the way rules need it: only its comments and strings, or only its code.
//!
//! A lexer of just what holds prose; what is hidden is replaced by blanks, so lines keep their
//! numbers. It does not parse.

/// The text with code replaced by blanks.
pub(crate) fn prose(text: &str) -> String {
    blank(text, |is_prose| !is_prose)
}

/// The text with comments and strings replaced by blanks.
pub(crate) fn code(text: &str) -> String {
    blank(text, |is_prose| is_prose)
}

/// The text without the parts that are `hidden`, which is asked whether a part is prose.
fn blank(text: &str, hidden: impl Fn(bool) -> bool) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let prose = prose_length(&bytes[at..]);
        let end = at + prose.unwrap_or(1);
        if hidden(prose.is_some()) {
            for byte in out[at..end].iter_mut().filter(|byte| **byte != b'\n') {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether the line is a comment and nothing else.
pub(crate) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("--")
}

/// Length of the comment or string that `rest` begins with; `None` for code.
fn prose_length(rest: &[u8]) -> Option<usize> {
    if let Some(comment) = rest.strip_prefix(b"--") {
        let len = long_bracket(comment).unwrap_or_else(|| {
            let newline = comment.iter().position(|&b| b == b'\n');
            newline.unwrap_or(comment.len())
        });
        return Some(2 + len);
    }
    match *rest.first()? {
        quote @ (b'"' | b'\'') => Some(quoted(rest, quote)),
        b'[' => long_bracket(rest),
        _ => None,
    }
}

/// Length of a string in quotes; one without its closing quote ends with its line.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'\n' => return at,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of `[[…]]` or `[==[…]==]`; `None` where the bracket begins something else.
fn long_bracket(rest: &[u8]) -> Option<usize> {
    let level = rest
        .strip_prefix(b"[")?
        .iter()
        .take_while(|&&b| b == b'=')
        .count();
    if rest.get(1 + level) != Some(&b'[') {
        return None;
    }
    let mut end = vec![b']'];
    end.extend(std::iter::repeat_n(b'=', level));
    end.push(b']');
    let body = 2 + level;
    let len = rest[body..].windows(end.len()).position(|w| w == end);
    Some(len.map_or(rest.len(), |len| body + len + end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_remain() {
        assert_eq!(prose("x = 'a b' -- c\ny"), "    'a b' -- c\n ");
        assert_eq!(prose("f(\"a\\\"b\", t[1])"), "  \"a\\\"b\"       ");
        assert_eq!(
            prose("--[[ a\nb ]] x [==[ c ]] ]==] y"),
            "--[[ a\nb ]]   [==[ c ]] ]==]  "
        );
    }

    #[test]
    fn code_remains_without_comments_and_strings() {
        assert_eq!(code("x = 'a b' -- c\ny"), "x =           \ny");
    }

    #[test]
    fn an_open_string_ends_with_its_line() {
        assert_eq!(prose("x = \"a\ny"), "    \"a\n ");
    }

    #[test]
    fn comment_lines_are_recognised() {
        assert!(is_comment("  -- a"));
        assert!(!is_comment("x() -- a"));
    }
}
