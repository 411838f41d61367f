//! A command in a guest, and its result.

use crate::error::LabError;
use crate::guest::describe::quoted;
use provium_guest::{CapturedOutput, DEFAULT_MAX_OUTPUT};
use provium_protocol::message::Exit;
use provium_protocol::op::{Exec, Program};
use std::fmt;
use std::time::Duration;

/// Longest argument or variable of a program, with its final zero byte, bytes: `MAX_ARG_STRLEN` of Linux,
/// 32 pages.
const LONGEST_ARGUMENT: usize = 128 * 1024;
/// Longest list of arguments and variables, bytes: three quarters of `_STK_LIM` of Linux (8 MiB), whatever
/// the stack's own limit is.
const LONGEST_LIST: usize = 6 * 1024 * 1024;
/// `ENOENT`, of Linux.
const NO_ENTRY: i32 = 2;
/// `E2BIG`, of Linux.
const TOO_BIG: i32 = 7;

/// A command, and how much of its output is kept.
#[derive(Debug, Clone)]
pub struct CommandSpec {
    /// What is run. Whether it is in the background, and whether its output comes with the reply, is decided by
    /// the call that runs it.
    pub exec: Exec,
    /// Bytes kept of each output stream; past it the middle is dropped.
    pub max_output: usize,
}

impl CommandSpec {
    /// A command with everything by default and no input.
    pub fn new(program: Program) -> Self {
        Self {
            exec: Exec::new(program),
            max_output: DEFAULT_MAX_OUTPUT,
        }
    }

    /// The request for it; `background` for those of `run_async`.
    pub(crate) fn request(&self, background: bool) -> Exec {
        Exec {
            background,
            collect: None,
            ..self.exec.clone()
        }
    }

    /// What is too long for any Linux kernel, in words that complete "cannot".
    pub(crate) fn excess(&self) -> Option<String> {
        let words: Vec<&[u8]> = match &self.exec.program {
            Program::Shell(text) => vec![text],
            Program::Argv(words) => words.iter().map(|word| word.as_slice()).collect(),
        };
        let arguments = words.iter().map(|word| word.len() + 1);
        let variables = self
            .exec
            .env
            .iter()
            .map(|(name, value)| name.len() + value.len() + 2);
        let lengths = || arguments.clone().chain(variables.clone());
        if let Some(length) = lengths().find(|length| *length > LONGEST_ARGUMENT) {
            let (length, limit) = (length - 1, LONGEST_ARGUMENT - 1);
            return Some(format!(
                "pass an argument or variable of {length} bytes (the limit of Linux is {limit}; use \
                 `stdin` or a file)"
            ));
        }
        let total: usize = lengths().sum();
        (total > LONGEST_LIST).then(|| {
            format!(
                "pass {total} bytes of arguments and variables (the limit of Linux is \
                 {LONGEST_LIST}; use `stdin` or a file)"
            )
        })
    }
}

/// The error of a command that no kernel would take.
pub(crate) fn too_big(subject: String, call: String, excess: String) -> LabError {
    LabError::Guest {
        subject,
        call,
        errno: TOO_BIG,
        detail: excess,
    }
}

/// Says that the shell is what is missing, where a command that needs it found nothing.
pub(crate) fn missing_shell(program: &Program, mut error: LabError) -> LabError {
    if let (Program::Shell(_), LabError::Guest { errno, detail, .. }) = (program, &mut error)
        && *errno == NO_ENTRY
        && detail.is_empty()
    {
        *detail =
            "run `/bin/sh`, which a command given as one string needs (a list of program and \
                   arguments needs no shell)"
                .to_owned();
    }
    error
}

/// The result of a command that has ended.
pub(crate) fn result_of(
    command: String,
    exit: Exit,
    timed_out: bool,
    stdout: CapturedOutput,
    stderr: CapturedOutput,
) -> RunResult {
    let status = match (timed_out, exit.signal, exit.code) {
        (true, _, _) => RunStatus::TimedOut,
        (false, Some(signal), _) => RunStatus::Signalled(signal),
        // An unknown code counts as a failure: the test's own code reaped the child.
        (false, None, code) => RunStatus::Exited(code.unwrap_or(255)),
    };
    RunResult {
        command,
        status,
        stdout_dropped: stdout.dropped,
        stderr_dropped: stderr.dropped,
        stdout: stdout.bytes,
        stderr: stderr.bytes,
        duration: Duration::from_nanos(exit.duration_ns),
    }
}

impl fmt::Display for CommandSpec {
    /// As the author wrote it: `"echo hi"` or `"echo", {"hi"}`, cut at 80 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match &self.exec.program {
            Program::Shell(text) => quoted(text),
            Program::Argv(words) => {
                let mut words = words
                    .iter()
                    .map(|word| format!("{:?}", String::from_utf8_lossy(word)));
                let program = words.next().unwrap_or_default();
                let rest: Vec<_> = words.collect();
                if rest.is_empty() {
                    program
                } else {
                    format!("{program}, {{{}}}", rest.join(", "))
                }
            }
        };
        match text.char_indices().nth(80) {
            Some((cut, _)) => write!(f, "{}…", &text[..cut]),
            None => f.write_str(&text),
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Signalled(i32),
    /// Its time was up, and it was killed.
    TimedOut,
}

impl RunStatus {
    /// `exited`, `signalled` or `timed_out`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exited(_) => "exited",
            Self::Signalled(_) => "signalled",
            Self::TimedOut => "timed_out",
        }
    }

    /// The exit code; -1 when signalled, -2 when timed out.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signalled(_) => -1,
            Self::TimedOut => -2,
        }
    }

    /// As a shell counts: 128 + signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signalled(signal) => 128 + signal,
            Self::TimedOut => 128 + 9,
        }
    }
}

/// The result of a command.
#[derive(Debug, Clone)]
pub struct RunResult {
    /// The command, as [`CommandSpec`] displays it.
    pub command: String,
    /// How it ended.
    pub status: RunStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// Bytes dropped from the middle of the standard output.
    pub stdout_dropped: u64,
    /// Bytes dropped from the middle of the standard error.
    pub stderr_dropped: u64,
    /// From start to end, on the guest's clock.
    pub duration: Duration,
}

impl RunResult {
    /// Whether it exited with 0.
    pub fn ok(&self) -> bool {
        self.status == RunStatus::Exited(0)
    }

    /// The signal that killed it.
    pub fn signal(&self) -> Option<i32> {
        match self.status {
            RunStatus::Signalled(signal) => Some(signal),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_bytes::ByteBuf;

    #[test]
    fn arguments_beyond_the_limits_of_the_kernel_are_refused() {
        let words = |lengths: &[usize]| {
            let words = lengths.iter().map(|len| ByteBuf::from(vec![b'x'; *len]));
            CommandSpec::new(Program::Argv(words.collect()))
        };
        assert_eq!(words(&[4, 128 * 1024 - 1]).excess(), None);
        let long = words(&[4, 128 * 1024]).excess().unwrap_or_default();
        assert!(
            long.contains("131072 bytes") && long.contains("131071"),
            "{long}"
        );
        let many = words(&[100_000; 70]).excess().unwrap_or_default();
        assert!(many.contains("7000070 bytes"), "{many}");
        let mut spec = words(&[4]);
        spec.exec.env = vec![(ByteBuf::from("A"), ByteBuf::from(vec![b'x'; 200_000]))];
        assert!(spec.excess().is_some());
        let shell = CommandSpec::new(Program::Shell(ByteBuf::from(vec![b'x'; 200_000])));
        assert!(shell.excess().is_some());
    }

    #[test]
    fn displays_as_written_and_cuts_what_is_long() {
        let shell = CommandSpec::new(Program::Shell(ByteBuf::from("echo \"hi\"")));
        assert_eq!(shell.to_string(), r#""echo \"hi\"""#);
        let words = ["dd", "if=/dev/zero"].map(ByteBuf::from).to_vec();
        assert_eq!(
            CommandSpec::new(Program::Argv(words)).to_string(),
            r#""dd", {"if=/dev/zero"}"#
        );
        let long = CommandSpec::new(Program::Shell(ByteBuf::from("ä".repeat(200))));
        assert_eq!(long.to_string().chars().count(), 81);
    }
}
