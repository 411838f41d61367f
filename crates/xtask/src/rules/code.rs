//! What Rust code may not contain, or only in some crates.
//!
//! Rules look at the text without comments and literals, line by line; one, about a name inside
//! strings, at the text without comments. Tests (modules behind `#[cfg(test)]`, files under
//! `tests/` and `benches/`) and build scripts are exempt where the [`Rule`] says so.

use crate::finding::Finding;
use crate::rust_source::{Hide, has_word, hide, lines_before_tests};
use crate::tree::Tree;

/// One thing that is refused, and where it is not.
struct Rule {
    /// Any of these, as whole words.
    words: &'static [&'static str],
    /// Crates in which they are fine; empty with [`Rule::only`] set.
    except: &'static [&'static str],
    /// Crates in which alone they are refused; empty: in all.
    only: &'static [&'static str],
    /// Whether tests and build scripts may have them.
    tests_may: bool,
    /// What is hidden from the rule.
    hide: Hide,
    why: &'static str,
    fix: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        words: &["allow("],
        except: &[],
        only: &[],
        tests_may: false,
        hide: Hide::CommentsAndStrings,
        why: "an exception that is not needed any more must be noticed",
        fix: "write `#[expect(…, reason = \"…\")]`",
    },
    Rule {
        words: &["unsafe"],
        except: &["agent", "process"],
        only: &[],
        tests_may: false,
        hide: Hide::CommentsAndStrings,
        why: "what the compiler cannot check stays in two crates",
        fix: "use what `process` offers, or offer it there",
    },
    Rule {
        words: &["print!", "println!", "eprint!", "eprintln!"],
        except: &["provium", "agent", "xtask"],
        only: &[],
        tests_may: true,
        hide: Hide::CommentsAndStrings,
        why: "a library never prints",
        fix: "return it, emit an event, or use `tracing`",
    },
    Rule {
        words: &["process::exit"],
        except: &["provium", "agent", "xtask"],
        only: &[],
        tests_may: true,
        hide: Hide::CommentsAndStrings,
        why: "only the executable decides its exit code, after everything was torn down",
        fix: "return an error",
    },
    Rule {
        words: &["process::Command"],
        // `xtask` runs git and waits for it.
        except: &["process", "xtask"],
        only: &[],
        tests_may: true,
        hide: Hide::CommentsAndStrings,
        why: "every child has a killer",
        fix: "start it through `provium-process`",
    },
    Rule {
        words: &["qemu-system-x86_64"],
        except: &["vmm", "provium", "xtask"],
        only: &[],
        tests_may: true,
        hide: Hide::Comments,
        why: "only `vmm` knows which program runs a machine",
        fix: "ask `vmm`",
    },
    Rule {
        words: &[
            "std::fs",
            "std::net",
            "std::thread",
            "std::process",
            "std::env",
        ],
        except: &[],
        only: &["protocol", "events"],
        tests_may: true,
        hide: Hide::CommentsAndStrings,
        why: "this crate has no I/O and starts nothing",
        fix: "take bytes and time as arguments",
    },
];

/// Forbidden words in code.
pub(crate) fn code(tree: &Tree) -> Vec<Finding> {
    tree.ending(".rs")
        .flat_map(|(path, text)| check(path, text))
        .collect()
}

fn check(path: &str, text: &str) -> Vec<Finding> {
    let views = [
        hide(text, Hide::Comments),
        hide(text, Hide::CommentsAndStrings),
    ];
    let body = if is_test(path) {
        0
    } else {
        lines_before_tests(text)
    };
    let mut findings = Vec::new();
    for rule in RULES.iter().filter(|rule| applies(rule, path)) {
        let view = if rule.hide == Hide::Comments {
            &views[0]
        } else {
            &views[1]
        };
        let lines = if rule.tests_may { body } else { usize::MAX };
        for (index, line) in view.lines().take(lines).enumerate() {
            for word in rule.words.iter().filter(|word| is_in(line, word)) {
                let what = format!("`{}`", word.trim_end_matches('('));
                findings.push(Finding::new(path, index + 1, what, rule.why, rule.fix));
            }
        }
    }
    findings
}

fn applies(rule: &Rule, path: &str) -> bool {
    let krate = path
        .strip_prefix("crates/")
        .and_then(|rest| rest.split('/').next())
        .unwrap_or("");
    !rule.except.contains(&krate) && (rule.only.is_empty() || rule.only.contains(&krate))
}

/// `allow(` counts only in an attribute; everything else is a word.
fn is_in(line: &str, word: &str) -> bool {
    match word.strip_suffix('(') {
        Some(attribute) => {
            let line = line.trim_start();
            (line.starts_with("#[") || line.starts_with("#![")) && has_word(line, attribute)
        }
        None => has_word(line, word),
    }
}

fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == "build.rs"
        || name == "tests.rs"
        || path
            .split('/')
            .any(|part| part == "tests" || part == "benches")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::lines;

    fn found(path: &str, text: &str) -> Vec<String> {
        lines(check(path, text))
    }

    #[test]
    fn allow_is_refused_also_in_tests_and_behind_a_condition() {
        assert_eq!(
            found("crates/lab/src/a.rs", "#[allow(dead_code)]\n"),
            ["1: `allow`"]
        );
        assert_eq!(
            found("crates/lab/tests/a.rs", "#![cfg_attr(x, allow(y))]\n"),
            ["1: `allow`"]
        );
        assert!(
            found(
                "crates/lab/src/a.rs",
                "fn allow(x: u8) {}\nself.allow(1);\n"
            )
            .is_empty()
        );
        assert!(
            found(
                "crates/lab/src/a.rs",
                "#[expect(dead_code, reason = \"allow\")]\n"
            )
            .is_empty()
        );
    }

    #[test]
    fn unsafe_has_two_homes() {
        assert_eq!(
            found("crates/lab/src/a.rs", "a\nunsafe { b }\n"),
            ["2: `unsafe`"]
        );
        assert!(found("crates/agent/src/a.rs", "unsafe { b }\n").is_empty());
        assert!(found("crates/lab/src/a.rs", "// unsafe\n#![deny(unsafe_code)]\n").is_empty());
    }

    #[test]
    fn libraries_do_not_print_their_tests_may() {
        assert_eq!(
            found("crates/lab/src/a.rs", "eprintln!(\"x\");\n"),
            ["1: `eprintln!`"]
        );
        let tests = "#[cfg(test)]\nmod tests {\nprintln!();\n}\n";
        assert!(found("crates/lab/src/a.rs", tests).is_empty());
        assert!(found("crates/lab/tests/a.rs", "println!();\n").is_empty());
        assert!(found("crates/image/build.rs", "println!(\"cargo::\");\n").is_empty());
        assert!(found("crates/provium/src/a.rs", "println!();\n").is_empty());
    }

    #[test]
    fn children_and_exits_have_owners() {
        assert_eq!(
            found(
                "crates/vmm/src/a.rs",
                "use tokio::process::Command;\nstd::process::exit(1);\n"
            ),
            ["2: `process::exit`", "1: `process::Command`"]
        );
        assert!(found("crates/vmm/src/a.rs", "use provium_process::Command;\n").is_empty());
    }

    #[test]
    fn the_program_is_named_in_one_place() {
        let text = "// qemu-system-x86_64\nlet x = \"qemu-system-x86_64\";\n";
        assert_eq!(
            found("crates/lab/src/a.rs", text),
            ["2: `qemu-system-x86_64`"]
        );
        assert!(found("crates/vmm/src/a.rs", text).is_empty());
    }

    #[test]
    fn pure_crates_have_no_io() {
        assert_eq!(
            found("crates/protocol/src/a.rs", "use std::fs::File;\n"),
            ["1: `std::fs`"]
        );
        assert!(found("crates/store/src/a.rs", "use std::fs::File;\n").is_empty());
    }
}
