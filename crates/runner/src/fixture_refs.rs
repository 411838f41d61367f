//! The fixtures that a file names, read from its source without running it.
//!
//! `vm_fixture("db.fixture.lua")` and `lab_fixture(…)` count, on any receiver, with or without
//! parentheses, where the path is a literal. One that is computed is not guessed; it is found when
//! the file runs.

use crate::scanner::{Token, tokens};

/// The paths that `source` names, as written there, each once.
pub fn fixture_refs(source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let mut found: Vec<String> = Vec::new();
    for at in 0..tokens.len() {
        let [
            Token::Sign('.' | ':'),
            Token::Name("vm_fixture" | "lab_fixture"),
            after @ ..,
        ] = &tokens[at..]
        else {
            continue;
        };
        let path = match after {
            [Token::Text(path), ..] => path,
            [
                Token::Sign('('),
                Token::Text(path),
                Token::Sign(')' | ','),
                ..,
            ] => path,
            _ => continue,
        };
        if !found.iter().any(|known| known == path) {
            found.push((*path).to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_in_every_form_lua_allows() {
        let source = r#"
            local a = provium:vm_fixture("a.fixture.lua")
            local b = provium.vm_fixture [[b.fixture.lua]]
            local again = lab : lab_fixture ( 'c.fixture.lua' , {name = "x"} )
            provium:vm_fixture"a.fixture.lua"
            -- provium:vm_fixture("no.fixture.lua")
            provium:vm_fixture(path)
            provium:vm_fixture("half" .. rest)
            vm_fixture("also.not")
            local s = 'provium:vm_fixture("no")'
        "#;
        assert_eq!(
            fixture_refs(source),
            ["a.fixture.lua", "b.fixture.lua", "c.fixture.lua"]
        );
        assert!(fixture_refs("").is_empty());
    }
}
