//! What a file will claim, read from its source without running it.
//!
//! `provium:claim{memory = "2G", cpus = 4}`, on any receiver, with or without parentheses, in any
//! place of the file, counts where it names literals; of several the largest amounts. What is
//! computed is not guessed: such a call says nothing, and the file is started like one without a
//! claim. A wrong claim is not reported here but by the call itself, at its line.

use crate::scanner::{Token, tokens};
use provium_events::Resources;
use provium_units::{parse_size, size_of_number};

/// The claim that `source` declares, if it can be read there.
pub(crate) fn declared(source: &str) -> Option<Resources> {
    let tokens = tokens(source);
    let mut largest: Option<Resources> = None;
    for at in 0..tokens.len() {
        let [Token::Sign(':'), Token::Name("claim"), after @ ..] = &tokens[at..] else {
            continue;
        };
        let after = match after {
            [Token::Sign('('), inner @ ..] => inner,
            direct => direct,
        };
        let [Token::Sign('{'), fields @ ..] = after else {
            continue;
        };
        if let Some(claim) = amount(fields) {
            let other = largest.unwrap_or_default();
            largest = Some(Resources {
                memory_bytes: claim.memory_bytes.max(other.memory_bytes),
                cpus: claim.cpus.max(other.cpus),
            });
        }
    }
    largest
}

/// What a claim does not name is taken from the pool as without a claim.
pub(crate) fn or_usual(claim: Resources, usual: Resources) -> Resources {
    let named_memory = claim.memory_bytes > 0;
    Resources {
        memory_bytes: if named_memory {
            claim.memory_bytes
        } else {
            usual.memory_bytes
        },
        cpus: if claim.cpus > 0 {
            claim.cpus
        } else {
            usual.cpus
        },
    }
}

/// The fields of a claim up to its brace; `None` unless all are literals that make sense.
fn amount(mut fields: &[Token<'_>]) -> Option<Resources> {
    let mut claim = Resources::default();
    loop {
        let value;
        (fields, value) = match fields {
            [Token::Sign('}'), ..] => {
                return Some(claim).filter(|claim| *claim != Resources::default());
            }
            [Token::Name(key), Token::Sign('='), value, rest @ ..] => (rest, (*key, value)),
            _ => return None,
        };
        match value {
            ("memory", Token::Number(text)) => claim.memory_bytes = number(text)?,
            ("memory", Token::Text(text)) => claim.memory_bytes = parse_size(text).ok()?,
            ("cpus", Token::Number(text)) => claim.cpus = u32::try_from(number(text)?).ok()?,
            _ => return None,
        }
        fields = match fields {
            [Token::Sign(',' | ';'), rest @ ..] => rest,
            [Token::Sign('}'), ..] => fields,
            // An operator: the value continues.
            _ => return None,
        };
    }
}

/// A whole number, in one of the forms that Lua has for numbers.
fn number(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).ok();
    }
    text.parse()
        .ok()
        .or_else(|| size_of_number(text.parse().ok()?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim(source: &str) -> Option<(u64, u32)> {
        declared(source).map(|claim| (claim.memory_bytes, claim.cpus))
    }

    #[test]
    fn literals_are_read_in_every_form_lua_allows() {
        const G: u64 = 1 << 30;
        assert_eq!(
            claim("provium:claim{memory = \"2G\", cpus = 4}"),
            Some((2 * G, 4))
        );
        assert_eq!(
            claim("lab : claim ( {\n cpus=2; memory='512M', -- enough\n} )"),
            Some((G / 2, 2))
        );
        assert_eq!(claim("x:claim{memory=[[1G]]}"), Some((G, 0)));
        assert_eq!(claim("x:claim{memory = 1048576,}"), Some((1 << 20, 0)));
        assert_eq!(claim("x:claim{memory = 0x100000}"), Some((1 << 20, 0)));
        assert_eq!(claim("x:claim{memory = 1.024e3}"), Some((1024, 0)));
        assert_eq!(
            claim("a:claim{cpus=3} b:claim{cpus=1, memory=\"1G\"}"),
            Some((G, 3))
        );
    }

    #[test]
    fn sizes_are_read_as_the_claim_itself_reads_them() {
        for size in ["1536M", "1.5G", "1.5g", "1.5 GiB", "1536MB", "1610612736"] {
            let source = format!("provium:claim{{memory = \"{size}\"}}");
            assert_eq!(claim(&source), Some((3 << 29, 0)), "{size}");
        }
    }

    #[test]
    fn computed_claims_and_other_calls_are_not_claims() {
        for none in [
            "",
            "provium:claim{}",
            "provium:claim(budget)",
            "provium:claim{memory = size, cpus = 2}",
            "provium:claim{memory = \"1G\" .. x}",
            "provium:claim{cpus = 2 * n}",
            "provium:claim{cpus = 1.5}",
            "provium:claim{disk = 2, cpus = 1}",
            "provium:claim{cpus = 2",
            "-- provium:claim{cpus = 2}",
            "--[==[ provium:claim{cpus = 2} ]] ]==]",
            "local s = 'provium:claim{cpus = 2}'",
            "local s = 'it\\'s provium:claim{cpus = 2}'",
            "local s = [[ provium:claim{cpus = 2} ]]",
            "provium:claims{cpus = 2}",
            "provium.claim{cpus = 2}",
            "x:claim{memory=\"99999999999T\"}",
        ] {
            assert_eq!(claim(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(source in "([a-z:{}()\\[\\]=\"'\\\\\n-]|claim|é|[0-9.]){0,80}") {
            let _ = declared(&source);
        }
    }
}
