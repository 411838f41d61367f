//! The strings of a file, read from its source without running it.

use crate::scanner::{Token, tokens};

/// The strings that a Lua file is written with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Literals {
    /// All of them, as written, in their order.
    pub texts: Vec<String>,
    /// Those that `require` is called with.
    pub modules: Vec<String>,
}

/// The strings of `source`. Comments have none, and what is put together when the file runs is not guessed.
pub fn literals(source: &str) -> Literals {
    let tokens = tokens(source);
    let mut found = Literals::default();
    for (at, token) in tokens.iter().enumerate() {
        let Token::Text(text) = token else {
            continue;
        };
        found.texts.push((*text).to_owned());
        let called = match &tokens[..at] {
            [.., name, Token::Sign('(')] => Some(name),
            [.., name] => Some(name),
            [] => None,
        };
        if called == Some(&Token::Name("require")) {
            found.modules.push((*text).to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_and_comments_are_not() {
        let source = r#"
            local net = require "helpers.net"
            local db = require('helpers.db')
            -- "comment" and require "no"
            provium:vm("v", [[profile]]) -- 'no'
            local half = "half" .. rest
        "#;
        let Literals { texts, modules } = literals(source);
        assert_eq!(texts, ["helpers.net", "helpers.db", "v", "profile", "half"]);
        assert_eq!(modules, ["helpers.net", "helpers.db"]);
        assert_eq!(literals(""), Literals::default());
    }
}
