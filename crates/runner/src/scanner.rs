//! Lua's tokens, for what is read from a source without running it.

/// The tokens of a source. Text that is not Lua gives some tokens as well.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    Tokens { rest: source }.collect()
}

/// What Lua's scanner would see (Lua 5.4 manual, 3.1), as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    Name(&'a str),
    Number(&'a str),
    /// Between its quotes or brackets, escapes as written.
    Text(&'a str),
    Sign(char),
}

/// The source that is still to be read.
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    /// Takes the first `end` bytes off the rest.
    fn take(&mut self, end: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// The text in long brackets, if the rest begins with some.
    fn long(&mut self) -> Option<&'a str> {
        let inner = self.rest.strip_prefix('[')?;
        let level = inner.len() - inner.trim_start_matches('=').len();
        let inner = inner[level..].strip_prefix('[')?;
        let closing = format!("]{}]", "=".repeat(level));
        let (text, rest) = inner.split_once(&closing).unwrap_or((inner, ""));
        self.rest = rest;
        Some(text)
    }

    fn quoted(&mut self, quote: char) -> &'a str {
        self.take(quote.len_utf8());
        let mut escaped = false;
        let end = self.rest.find(|character| {
            let ends = !escaped && (character == quote || character == '\n');
            escaped = !escaped && character == '\\';
            ends
        });
        let text = self.take(end.unwrap_or(self.rest.len()));
        self.take(1);
        text
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(comment) = self.rest.strip_prefix("--") {
                self.rest = comment;
                if self.long().is_none() {
                    self.take(comment.find('\n').unwrap_or(comment.len()));
                }
                continue;
            }
            let first = self.rest.chars().next()?;
            let part = |c: char| c == '_' || c.is_ascii_alphanumeric();
            let word = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
            return Some(match first {
                '"' | '\'' => Token::Text(self.quoted(first)),
                '0'..='9' => {
                    let number = |c: char| part(c) || c == '.';
                    let end = self.rest.find(|c| !number(c)).unwrap_or(self.rest.len());
                    Token::Number(self.take(end))
                }
                _ if part(first) => Token::Name(self.take(word)),
                '[' => match self.long() {
                    Some(text) => Token::Text(text),
                    None => {
                        self.take(1);
                        Token::Sign('[')
                    }
                },
                sign => {
                    self.take(sign.len_utf8());
                    Token::Sign(sign)
                }
            });
        }
    }
}
