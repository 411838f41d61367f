//! Batches: many small things in one round trip, in strict order.

use crate::command::{CommandSpec, RunResult, StdinSource, exec_of, result_of};
use crate::error::LabError;
use crate::line::Line;
use crate::raw::syscall_result;
use crate::surface::{Surface, WriteMode, quoted};
use provium_guest::{Captured, SyscallResult};
use provium_protocol::message::{Entry, ErrorKind, Reply, Stat};
use provium_protocol::op::{Op, Program};
use std::collections::VecDeque;

/// The most that a batch keeps of each of its commands' streams, bytes.
const BATCH_OUTPUT: usize = 8 * 1024 * 1024;
/// What one request carries, bytes. An entry that is larger goes by itself, as a stream.
const REQUEST: usize = 4 * 1024 * 1024;
/// What an entry takes besides its content, about.
const ENTRY: usize = 256;

/// One thing to do in a batch.
#[derive(Debug, Clone)]
pub enum BatchEntry {
    /// Run a command.
    Run(CommandSpec),
    /// Anything by path, or a raw syscall.
    Op(Op),
}

/// What one entry of a batch came to.
#[derive(Debug, Clone)]
pub enum BatchOutcome {
    /// A command's result.
    Run(RunResult),
    /// A file's content.
    Bytes(Vec<u8>),
    /// Bytes written.
    Count(u64),
    /// Metadata.
    Stat(Stat),
    /// A folder's entries.
    Entries(Vec<Entry>),
    /// Done, and nothing to say.
    Done,
    /// A raw syscall's result.
    Syscall(SyscallResult),
}

impl Surface {
    /// Does all entries in strict order in one round trip; one that fails does not stop the next.
    pub async fn batch(
        &self,
        entries: Vec<BatchEntry>,
    ) -> Result<Vec<Result<BatchOutcome, LabError>>, LabError> {
        let line = self.commands(format!("batch({} entries)", entries.len()))?;
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut left: VecDeque<BatchEntry> = entries.into();
        while let Some(first) = left.front() {
            if first.size() > REQUEST
                && let Some(entry) = left.pop_front()
            {
                outcomes.push(self.batch_entry(entry).await);
                continue;
            }
            let mut size = 0;
            let fits = |entry: &&BatchEntry| {
                size += entry.size();
                size <= REQUEST
            };
            let ops = left.iter().take_while(fits).map(BatchEntry::op).collect();
            let results = line.lane.channel().batch(self.lane(), ops).await;
            // The guest may have stopped early: the others go with the next request.
            for result in line.checked(results).await? {
                let Some(entry) = left.pop_front() else { break };
                let (call, command) = entry.names();
                let line = line.about(line.subject.clone(), call);
                outcomes.push(match result {
                    Ok(reply) => BatchOutcome::of(reply, command, &line),
                    Err(error) if error.kind == ErrorKind::TooLarge => {
                        self.batch_entry(entry).await
                    }
                    Err(error) => Err(line.remote(error)),
                });
            }
        }
        Ok(outcomes)
    }

    /// An entry that is too large to go with others.
    async fn batch_entry(&self, entry: BatchEntry) -> Result<BatchOutcome, LabError> {
        match entry {
            BatchEntry::Run(spec) => self.run(spec, None).await.map(BatchOutcome::Run),
            BatchEntry::Op(Op::ReadFile { path, .. }) => {
                self.read_file(&path).await.map(BatchOutcome::Bytes)
            }
            BatchEntry::Op(Op::WriteFile {
                path,
                perm,
                append,
                content,
            }) => {
                let mode = WriteMode { perm, append };
                let content = content.unwrap_or_default();
                let written = self.write_file(&path, &content, mode).await;
                written.map(BatchOutcome::Count)
            }
            BatchEntry::Op(op) => {
                let line = self.commands("batch entry".to_owned())?;
                let reply = line.request(op).await?;
                BatchOutcome::of(reply, String::new(), &line)
            }
        }
    }
}

impl BatchEntry {
    /// The call as the author would have written it alone, and the command if it is one.
    fn names(&self) -> (String, String) {
        let command = match self {
            Self::Run(spec) => spec.to_string(),
            Self::Op(_) => String::new(),
        };
        (self.call(&command), command)
    }

    fn call(&self, command: &str) -> String {
        match self {
            Self::Run(_) => format!("run({command})"),
            Self::Op(Op::ReadFile { path, .. }) => format!("read_file({})", quoted(path)),
            Self::Op(Op::WriteFile { path, .. }) => format!("write_file({})", quoted(path)),
            Self::Op(Op::Stat { path }) => format!("stat({})", quoted(path)),
            Self::Op(Op::ListDir { path }) => format!("listdir({})", quoted(path)),
            Self::Op(Op::MakeDir { path, .. }) => format!("mkdir({})", quoted(path)),
            Self::Op(Op::Unlink { path }) => format!("unlink({})", quoted(path)),
            Self::Op(Op::Rename { from, to }) => {
                format!("rename({}, {})", quoted(from), quoted(to))
            }
            Self::Op(Op::Syscall(syscall)) => format!("syscall({})", syscall.nr),
            Self::Op(_) => "batch entry".to_owned(),
        }
    }

    fn op(&self) -> Op {
        match self {
            Self::Op(op) => op.clone(),
            Self::Run(spec) => {
                let mut exec = exec_of(spec, false);
                let most = spec.max_output.min(BATCH_OUTPUT);
                exec.collect = Some(u32::try_from(most).unwrap_or(u32::MAX));
                Op::Exec(exec)
            }
        }
    }

    /// What it adds to a request, about.
    fn size(&self) -> usize {
        let content = match self {
            Self::Run(spec) => {
                let input = match &spec.stdin {
                    StdinSource::Bytes(bytes) => bytes.len(),
                    _ => 0,
                };
                let words = match &spec.program {
                    Program::Shell(text) => text.len(),
                    Program::Argv(words) => words.iter().map(|word| word.len() + 8).sum(),
                };
                input + words
            }
            Self::Op(Op::WriteFile { content, .. }) => content.as_ref().map_or(0, |it| it.len()),
            Self::Op(Op::Syscall(syscall)) => {
                let buffers = syscall.buffers.iter();
                buffers.map(|buffer| buffer.content.len() + 32).sum()
            }
            Self::Op(_) => 0,
        };
        content + ENTRY
    }
}

impl BatchOutcome {
    fn of(reply: Reply, command: String, line: &Line) -> Result<Self, LabError> {
        Ok(match reply {
            Reply::Ran {
                exit,
                stdout,
                stderr,
                stdout_dropped,
                stderr_dropped,
            } => {
                let whole = |bytes: serde_bytes::ByteBuf, dropped| Captured {
                    // As much of the beginning as of the end is kept.
                    gap_at: bytes.len() / 2,
                    bytes: bytes.into_vec(),
                    dropped,
                };
                Self::Run(result_of(
                    command,
                    exit,
                    false,
                    whole(stdout, stdout_dropped),
                    whole(stderr, stderr_dropped),
                ))
            }
            Reply::Bytes(bytes) => Self::Bytes(bytes.into_vec()),
            Reply::Count(count) => Self::Count(count),
            Reply::Stat(stat) => Self::Stat(stat),
            Reply::Entries(entries) => Self::Entries(entries),
            Reply::Done => Self::Done,
            Reply::Syscall {
                ret,
                errno,
                buffers,
            } => Self::Syscall(syscall_result(ret, errno, buffers)),
            other => return Err(line.strange(&other)),
        })
    }
}
