//! Brings the arguments of the command line into the order in which they are parsed.
//!
//! Flags that every command takes may precede it: `provium --config P list` is
//! `provium list --config P`. Without that, the command would be taken for a
//! path of a run.

use clap::CommandFactory as _;
use std::ffi::{OsStr, OsString};

use crate::lowargs::LowArgs;

/// Flags of every command; each takes a value.
const COMMON: [&str; 2] = ["--config", "--color"];

/// Moves common flags that precede a command behind it.
pub(crate) fn in_order(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let flags = common_flags(words.get(1..).unwrap_or_default());
    let at = 1 + flags;
    let commands = LowArgs::command();
    let named = |parent: &clap::Command, word: Option<&OsString>| {
        let word = word.and_then(|word| word.to_str())?;
        parent.find_subcommand(word).cloned()
    };
    let Some(command) = named(&commands, words.get(at)).filter(|_| flags > 0) else {
        return words;
    };
    // `fixture list` is a command of two words.
    let length = match named(&command, words.get(at + 1)) {
        Some(_) => 2,
        None => 1,
    };
    words[1..at + length].rotate_left(flags);
    words
}

/// How many words the common flags take that `words` begin with.
fn common_flags(words: &[OsString]) -> usize {
    let mut count = 0;
    while let Some(word) = words.get(count).and_then(|word| word.to_str()) {
        let joined = word.split_once('=').map(|(flag, _)| flag);
        if joined.is_some_and(|flag| COMMON.contains(&flag)) {
            count += 1;
        } else if COMMON.contains(&word) && count + 1 < words.len() {
            count += 2;
        } else {
            break;
        }
    }
    count
}

/// Whether a word is a command's name.
pub(crate) fn is_command(word: &OsStr) -> bool {
    let word = word.to_str();
    word.is_some_and(|word| LowArgs::command().find_subcommand(word).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(line: &str) -> String {
        let words = in_order(line.split(' ').map(OsString::from));
        let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
        words.join(" ")
    }

    #[test]
    fn common_flags_go_behind_the_command() {
        for (typed, read) in [
            ("provium --config p list -x", "provium list --config p -x"),
            (
                "provium --color=never doctor",
                "provium doctor --color=never",
            ),
            (
                "provium --color never --config p fixture list --json",
                "provium fixture list --color never --config p --json",
            ),
            ("provium --config p tests", "provium --config p tests"),
            ("provium --config list", "provium --config list"),
            ("provium list --config p", "provium list --config p"),
            ("provium -v list", "provium -v list"),
            ("provium", "provium"),
        ] {
            assert_eq!(ordered(typed), read);
        }
    }
}
