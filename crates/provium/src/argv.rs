//! The arguments of the command line before they are parsed: their order, and words that are neither a
//! command nor a path.
//!
//! Flags that every command takes may precede it: `provium --config P list` is
//! `provium list --config P`. Without that, the command would be taken for a
//! path of a run.

use crate::lowargs::LowArgs;
use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Flags of every command; each takes a value.
const COMMON: [&str; 2] = ["--config", "--color"];

/// Flags of the command line that this version does not have yet.
const PLANNED_FLAGS: [&str; 10] = [
    "--since",
    "--changed",
    "--watch",
    "--shard",
    "--no-preflight",
    "--no-ksm",
    "--tap",
    "--html",
    "--events-socket",
    "--coverage",
];

/// Commands that this version does not have yet.
const PLANNED_COMMANDS: [&str; 4] = ["repl", "lsp-setup", "init", "report"];

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

/// The first word, if it is neither a command nor a path, and looks like a command.
pub(crate) fn unknown_command(words: &[OsString]) -> Option<String> {
    let word = words.get(1)?.to_str()?;
    let looks_like_one = word.starts_with(|first: char| first.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let unknown = looks_like_one && !is_command(OsStr::new(word)) && !Path::new(word).exists();
    unknown.then(|| word.to_owned())
}

/// What can be typed instead of a word that is not a command.
pub(crate) fn command_hint(word: &str) -> String {
    if PLANNED_COMMANDS.contains(&word) {
        return format!("the command `{word}` is not in this version of provium");
    }
    let command = LowArgs::command();
    let visible = command.get_subcommands().filter(|one| !one.is_hide_set());
    let names: Vec<&str> = visible.map(clap::Command::get_name).collect();
    let nearest = provium_lab::nearest::nearest(word, names.iter().copied());
    let nearest = nearest.map(|name| format!("did you mean `{name}`? "));
    format!(
        "{}commands are {}; a path to run has a slash or a dot, or exists",
        nearest.unwrap_or_default(),
        names.join(", ")
    )
}

/// The flag or value that a parser's error is about, if it is one of later versions.
pub(crate) fn planned_flag(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let typed = text(ContextKind::InvalidArg)?;
            let flag = typed.split(['=', ' ']).next()?;
            PLANNED_FLAGS.contains(&flag).then(|| flag.to_owned())
        }
        ErrorKind::InvalidValue => {
            let (flag, value) = (
                text(ContextKind::InvalidArg)?,
                text(ContextKind::InvalidValue)?,
            );
            let planned = flag.starts_with("--vmm") && value == "local";
            planned.then(|| "--vmm local".to_owned())
        }
        _ => None,
    }
}

/// Whether a word is a command's name.
pub(crate) fn is_command(word: &OsStr) -> bool {
    let word = word.to_str();
    let mut command = LowArgs::command();
    // Adds `help`.
    command.build();
    word.is_some_and(|word| command.find_subcommand(word).is_some())
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
