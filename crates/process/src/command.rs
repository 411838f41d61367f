//! What to start: program, arguments, environment, and which files the child gets.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::ProcessError;

/// Where one of a child's three standard streams leads.
#[derive(Debug, Default)]
pub enum Stdio {
    /// `/dev/null`.
    #[default]
    Null,
    /// A pipe whose other end the [`Child`](crate::Child) holds.
    Pipe,
    /// The same as this process's.
    Inherit,
    /// This file.
    Fd(OwnedFd),
}

/// A program to start, by [`spawn`](Command::spawn).
///
/// The child starts in its own process group, with no signal blocked or ignored, with exactly the
/// files named here open, and with SIGKILL as its parent-death signal.
#[derive(Debug)]
pub struct Command {
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    environment: BTreeMap<OsString, Option<OsString>>,
    clear_environment: bool,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) stdin: Stdio,
    pub(crate) stdout: Stdio,
    pub(crate) stderr: Stdio,
    pub(crate) inherited: Vec<(RawFd, OwnedFd)>,
    pub(crate) supervised: bool,
    pub(crate) original_limits: bool,
    pub(crate) without_capabilities: bool,
}

impl Command {
    /// A command of `program`, looked up on `PATH` unless it holds a slash.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            clear_environment: false,
            directory: None,
            stdin: Stdio::Null,
            stdout: Stdio::Null,
            stderr: Stdio::Null,
            inherited: Vec::new(),
            supervised: false,
            original_limits: false,
            without_capabilities: false,
        }
    }

    /// Adds one argument.
    pub fn arg(&mut self, argument: impl Into<OsString>) -> &mut Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(&mut self, arguments: impl IntoIterator<Item = A>) -> &mut Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the environment.
    pub fn env(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> &mut Self {
        self.environment.insert(name.into(), Some(value.into()));
        self
    }

    /// Removes a variable from the environment.
    pub fn env_remove(&mut self, name: impl Into<OsString>) -> &mut Self {
        self.environment.insert(name.into(), None);
        self
    }

    /// Starts from an empty environment; only variables set here are passed on.
    pub fn env_clear(&mut self) -> &mut Self {
        self.clear_environment = true;
        self
    }

    /// The child's working directory (default: the host process's).
    pub fn current_dir(&mut self, directory: impl Into<PathBuf>) -> &mut Self {
        self.directory = Some(directory.into());
        self
    }

    /// Where standard input comes from (default: nothing to read).
    pub fn stdin(&mut self, stdin: Stdio) -> &mut Self {
        self.stdin = stdin;
        self
    }

    /// Where standard output goes (default: nowhere).
    pub fn stdout(&mut self, stdout: Stdio) -> &mut Self {
        self.stdout = stdout;
        self
    }

    /// Where standard error goes (default: nowhere).
    pub fn stderr(&mut self, stderr: Stdio) -> &mut Self {
        self.stderr = stderr;
        self
    }

    /// Gives the child `fd` as its file descriptor `number` (3 or more; the lower three have
    /// methods of their own). A later call with the same number wins.
    pub fn inherit(&mut self, number: RawFd, fd: OwnedFd) -> &mut Self {
        self.inherited.retain(|(taken, _)| *taken != number);
        self.inherited.push((number, fd));
        self
    }

    /// Gives the child a watchdog, which kills it and all its descendants when the handle is dropped
    /// before the child's exit, and when this process ends, however it ends. See `watchdog`.
    pub fn supervised(&mut self) -> &mut Self {
        self.supervised = true;
        self
    }

    /// Gives the child the resource limits that this process was started with, instead of those that
    /// [`raise_limits`](crate::raise_limits) has raised.
    pub fn original_limits(&mut self) -> &mut Self {
        self.original_limits = true;
        self
    }

    /// Drops every capability of the child, also if root runs it.
    pub fn without_capabilities(&mut self) -> &mut Self {
        self.without_capabilities = true;
        self
    }

    /// The program, for messages.
    pub fn program_name(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    /// The whole command as one line for people, quoted where a shell would need it.
    pub fn to_line(&self) -> String {
        std::iter::once(&self.program)
            .chain(&self.arguments)
            .map(|word| quoted(&word.to_string_lossy()))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The file that `execvp` would execute.
    ///
    /// # Errors
    /// [`ProcessError::NotFound`].
    pub fn resolve(&self) -> Result<PathBuf, ProcessError> {
        let not_found = || ProcessError::NotFound {
            program: self.program_name(),
        };
        if self.program.as_bytes().contains(&b'/') {
            let path = PathBuf::from(&self.program);
            // Only absence is an error here. The kernel refuses everything else.
            return if path.symlink_metadata().is_ok() {
                Ok(path)
            } else {
                Err(not_found())
            };
        }
        let path = match self.environment.get(OsStr::new("PATH")) {
            Some(set) => set.clone(),
            None => std::env::var_os("PATH"),
        };
        std::env::split_paths(&path.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()))
            .map(|folder| folder.join(&self.program))
            .find(|file| is_executable(file))
            .ok_or_else(not_found)
    }

    /// `NAME=value` strings for `execve`.
    pub(crate) fn environment_block(&self) -> Result<Vec<CString>, ProcessError> {
        let mut merged: BTreeMap<OsString, OsString> = if self.clear_environment {
            BTreeMap::new()
        } else {
            std::env::vars_os().collect()
        };
        for (name, value) in &self.environment {
            match value {
                Some(value) => merged.insert(name.clone(), value.clone()),
                None => merged.remove(name),
            };
        }
        merged
            .into_iter()
            .map(|(mut entry, value)| {
                entry.push("=");
                entry.push(value);
                self.c_string(entry)
            })
            .collect()
    }

    /// `text` with a null byte at its end.
    pub(crate) fn c_string(&self, text: impl Into<OsString>) -> Result<CString, ProcessError> {
        CString::new(text.into().into_vec()).map_err(|_| ProcessError::NulByte {
            program: self.program_name(),
        })
    }
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_pasted_into_a_shell() {
        let mut command = Command::new("prog");
        command.args(["-append", "console=ttyS0 quiet", "", "it's"]);
        assert_eq!(
            command.to_line(),
            r"prog -append 'console=ttyS0 quiet' '' 'it'\''s'"
        );
    }

    #[test]
    fn the_environment_is_the_hosts_with_changes() {
        let mut command = Command::new("prog");
        command.env("PROVIUM_TEST_ADDED", "1").env_remove("PATH");
        let block = command.environment_block().unwrap();
        assert!(
            block
                .iter()
                .any(|entry| entry.to_bytes() == b"PROVIUM_TEST_ADDED=1")
        );
        assert!(
            !block
                .iter()
                .any(|entry| entry.to_bytes().starts_with(b"PATH="))
        );
        command.env_clear();
        assert_eq!(command.environment_block().unwrap().len(), 1);
    }

    #[test]
    fn a_program_that_is_absent_is_named() {
        let error = Command::new("provium-no-such-program")
            .resolve()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`provium-no-such-program` is not installed or not on PATH"
        );
        assert!(Command::new("/nonexistent/program").resolve().is_err());
    }
}
