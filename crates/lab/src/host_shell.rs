//! Shell commands on the host, for scripts that need something done there.
//!
//! Sets no deadline: who asks bounds the wait, and dropping the future kills the command with all
//! that it has started.

use crate::error::LabError;
use provium_process::{Command, Exit, Stdio, output};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a command on the host left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOutput {
    /// Its exit status, or the signal that killed it.
    pub exit: Result<i32, i32>,
    /// Standard output, its first 16 MiB.
    pub stdout: Vec<u8>,
    /// Standard error, its first 16 MiB.
    pub stderr: Vec<u8>,
}

/// Runs `/bin/sh -c` with `command` on the host, with the host's environment and nothing to read.
///
/// # Errors
/// The shell cannot be started.
pub async fn host_shell(command: &[u8]) -> Result<HostOutput, LabError> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(OsString::from_vec(command.to_vec()));
    // It ends with all that it has started, also if this process is killed.
    shell.stdin(Stdio::Null).supervised().original_limits();
    let output = output(shell, FOR_EVER).await;
    let output =
        output.map_err(|error| LabError::host("the host".to_owned(), "os.execute()", error))?;
    Ok(HostOutput {
        exit: match output.exit {
            Exit::Exited(code) => Ok(code),
            Exit::Signalled(signal) => Err(signal),
        },
        stdout: output.stdout,
        stderr: output.stderr,
    })
}

/// A shell command on the host that runs beside the script. Dropping it kills it with all that
/// it has started.
pub use provium_process::{Child as HostChild, Exit as HostExit};

/// A file of the host, watched for when there is something to read.
pub use provium_process::watch_readable as watch_host_file;

/// Starts `/bin/sh -c` with `command` on the host, with the host's environment. Its standard output and
/// error are pipes; so is its standard input, with `feed`, else there is nothing to read.
///
/// # Errors
/// The shell cannot be started.
pub fn start_host_shell(command: &[u8], feed: bool) -> Result<HostChild, LabError> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(OsString::from_vec(command.to_vec()));
    let input = if feed { Stdio::Pipe } else { Stdio::Null };
    shell.stdin(input).stdout(Stdio::Pipe).stderr(Stdio::Pipe);
    // As in `host_shell`.
    shell.supervised().original_limits();
    let started = shell.spawn();
    started.map_err(|error| LabError::host("the host".to_owned(), "io.popen()", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn status_signal_and_output_come_back() {
        let shell = host_shell(b"echo out; echo err >&2; read line || exit 3");
        let ran = shell.await.unwrap();
        assert_eq!(ran.exit, Ok(3), "there is nothing to read");
        assert_eq!(
            (ran.stdout, ran.stderr),
            (b"out\n".to_vec(), b"err\n".to_vec())
        );
        assert_eq!(host_shell(b"kill -KILL $$").await.unwrap().exit, Err(9));
    }
}
