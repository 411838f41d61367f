//! What runs in the guest: a shell, the script on standard input, or one command.

use provium_lab::{CommandSpec, Program, Stdin, WindowSize};
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::OsStringExt as _;

/// A login shell in the home folder: bash where the guest has it.
const LOGIN_SHELL: &str = "cd \"$HOME\" 2>/dev/null\n\
    if command -v bash >/dev/null 2>&1; then exec bash -l; fi\n\
    exec /bin/sh -l";

/// A shell that reads a script.
const SCRIPT_SHELL: &str = "exec /bin/sh";

/// Whether standard input and output are a terminal, which the command then gets as well.
pub(super) fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The words of a command, or else a shell; on a terminal of the size `window`, or with pipes.
pub(super) fn command(words: Vec<OsString>, tty: bool, window: WindowSize) -> CommandSpec {
    let program = if !words.is_empty() {
        let words = words.into_iter().map(|word| word.into_vec().into());
        Program::Argv(words.collect())
    } else if tty {
        Program::Shell(LOGIN_SHELL.as_bytes().to_vec().into())
    } else {
        Program::Shell(SCRIPT_SHELL.as_bytes().to_vec().into())
    };
    let term = std::env::var_os("TERM").filter(|term| tty && !term.is_empty());
    let term = term.map(|term| (b"TERM".to_vec().into(), term.into_vec().into()));
    let mut spec = CommandSpec::new(program);
    spec.exec.tty = tty;
    spec.exec.window = window;
    spec.exec.stdin = Stdin::Channel;
    spec.exec.env = term.into_iter().collect();
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_passed_unchanged_and_without_a_shell() {
        let window = WindowSize::default();
        let words = |words: &[&str]| words.iter().map(OsString::from).collect();
        let one = command(words(&["ls", "a b"]), false, window);
        assert_eq!(one.to_string(), r#""ls", {"a b"}"#);
        assert!(!one.exec.tty && one.exec.env.is_empty());
        let text = |spec: CommandSpec| match spec.exec.program {
            Program::Shell(text) => String::from_utf8(text.into_vec()).unwrap(),
            Program::Argv(words) => panic!("{words:?}"),
        };
        assert!(text(command(Vec::new(), true, window)).contains("bash -l"));
        assert_eq!(text(command(Vec::new(), false, window)), SCRIPT_SHELL);
    }
}
