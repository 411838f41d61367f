//! Batches: many small things in one round trip, in strict order.

use crate::command::{CommandSpec, RunResult, exec_of, result_of};
use crate::error::LabError;
use crate::line::Line;
use crate::raw::syscall_result;
use crate::surface::{Surface, quoted};
use provium_guest::{Captured, SyscallResult};
use provium_protocol::message::{Entry, Reply, Stat};
use provium_protocol::op::Op;

/// Output that a batch keeps of each of its commands' streams, bytes.
const BATCH_OUTPUT: u32 = 4 * 1024 * 1024;

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
        let agent = self.agent(format!("batch({} entries)", entries.len()))?;
        let (commands, raw) = self.lanes();
        let names: Vec<_> = entries.iter().map(BatchEntry::names).collect();
        let ops = entries.into_iter().map(BatchEntry::into_op).collect();
        let results = agent.lane.channel().batch(commands, raw, ops).await;
        let results = agent.checked(results).await?;
        let outcomes = results
            .into_iter()
            .zip(names)
            .map(|(result, (call, command))| {
                let line = agent.about(agent.subject.clone(), call);
                match result {
                    Ok(reply) => BatchOutcome::of(reply, command, &line),
                    Err(error) => Err(line.remote(error)),
                }
            });
        Ok(outcomes.collect())
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

    fn into_op(self) -> Op {
        match self {
            Self::Op(op) => op,
            Self::Run(spec) => {
                let mut exec = exec_of(&spec, false);
                exec.collect = Some(BATCH_OUTPUT);
                Op::Exec(exec)
            }
        }
    }
}

impl BatchOutcome {
    fn of(reply: Reply, command: String, line: &Line) -> Result<Self, LabError> {
        Ok(match reply {
            Reply::Ran {
                exit,
                stdout,
                stderr,
            } => {
                let whole = |bytes: serde_bytes::ByteBuf| Captured {
                    bytes: bytes.into_vec(),
                    ..Captured::default()
                };
                Self::Run(result_of(
                    command,
                    exit,
                    false,
                    whole(stdout),
                    whole(stderr),
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
