//! Tools that run to their exit within a deadline, with bounded output.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::child::Exit;
use crate::command::{Command, Stdio};
use crate::error::ProcessError;

/// How much of each stream is kept, bytes. The rest is read and discarded.
const MAX_STREAM_BYTES: usize = 16 << 20;

/// How long to wait after the tool's exit for a stream that a descendant keeps open.
const STREAM_GRACE: Duration = Duration::from_millis(500);

/// The exit status and output of a tool.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit status.
    pub exit: Exit,
    /// Standard output, its first 16 MiB.
    pub stdout: Vec<u8>,
    /// Standard error, its first 16 MiB.
    pub stderr: Vec<u8>,
    /// Bytes of both streams that were discarded because of the limit.
    pub dropped: u64,
}

/// Runs `command` to its exit and returns its output. Standard output and error are captured, whatever
/// the command specifies for them. A status other than 0 is not an error.
///
/// # Errors
/// As [`Command::spawn`]; [`ProcessError::Deadline`] if it has not exited in time; it is killed then.
pub async fn output(mut command: Command, deadline: Duration) -> Result<Output, ProcessError> {
    command.stdout(Stdio::Pipe).stderr(Stdio::Pipe);
    let program = command.program_name();
    let until = Instant::now() + deadline;
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (CapturedStream::default(), CapturedStream::default());
    let exit = {
        let read = async { tokio::join!(out.read(stdout), err.read(stderr)) };
        tokio::pin!(read);
        let wait = async {
            tokio::select! {
                exit = child.wait() => (exit, false),
                // Both streams have ended; the process is about to exit.
                _ = &mut read => (child.wait().await, true),
            }
        };
        let (exit, all_read) = timeout_at(until, wait)
            .await
            .map_err(|_| ProcessError::Deadline { program, deadline })?;
        if !all_read {
            let _ = timeout(STREAM_GRACE, read).await;
        }
        exit?
    };
    let dropped = out.dropped + err.dropped;
    Ok(Output {
        exit,
        stdout: out.kept,
        stderr: err.kept,
        dropped,
    })
}

#[derive(Default)]
struct CapturedStream {
    kept: Vec<u8>,
    dropped: u64,
}

impl CapturedStream {
    /// Reads to the end; what has been read so far survives cancellation.
    async fn read(&mut self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut buffer = vec![0; 64 << 10];
        // A read error of a pipe is treated as its end.
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            let keep = count.min(MAX_STREAM_BYTES - self.kept.len());
            self.kept.extend_from_slice(&buffer[..keep]);
            self.dropped += (count - keep) as u64;
        }
    }
}
