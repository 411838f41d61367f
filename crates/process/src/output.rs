//! Short tools: run to the end within a deadline, with bounded output.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::child::Exit;
use crate::command::{Command, Stdio};
use crate::error::ProcessError;

/// What is kept of each stream. Tools that say more are not listened to, but still run to their end.
const LIMIT: usize = 16 << 20;

/// After the tool's end, how long to wait for a stream that some escaped descendant keeps open.
const STRAGGLER_GRACE: Duration = Duration::from_millis(500);

/// What a tool left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Standard output, its first 16 MiB.
    pub stdout: Vec<u8>,
    /// Standard error, its first 16 MiB.
    pub stderr: Vec<u8>,
    /// Bytes that were thrown away because of the limit, both streams together.
    pub dropped: u64,
}

/// Runs `command` to its end and gives what it wrote. Its standard output and error are captured,
/// whatever the command says about them. A status other than 0 is not an error here.
///
/// # Errors
/// As [`Command::spawn`]; [`ProcessError::Deadline`] if it is not over in time: it is killed then.
pub async fn output(mut command: Command, deadline: Duration) -> Result<Output, ProcessError> {
    command.stdout(Stdio::Pipe).stderr(Stdio::Pipe);
    let program = command.program_name();
    let until = Instant::now() + deadline;
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Capture::default(), Capture::default());
    let exit = {
        let read = async { tokio::join!(out.read(stdout), err.read(stderr)) };
        tokio::pin!(read);
        let wait = async {
            tokio::select! {
                exit = child.wait() => (exit, false),
                // Both streams ended first; the process itself is about to.
                _ = &mut read => (child.wait().await, true),
            }
        };
        let (exit, all_read) = timeout_at(until, wait)
            .await
            .map_err(|_| ProcessError::Deadline { program, deadline })?;
        if !all_read {
            let _ = timeout(STRAGGLER_GRACE, read).await;
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
struct Capture {
    kept: Vec<u8>,
    dropped: u64,
}

impl Capture {
    /// Reads to the end; what has been read so far survives cancellation.
    async fn read(&mut self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut buffer = vec![0; 64 << 10];
        // A read error on a pipe says no more than its end does.
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            let keep = count.min(LIMIT - self.kept.len());
            self.kept.extend_from_slice(&buffer[..keep]);
            self.dropped += (count - keep) as u64;
        }
    }
}
