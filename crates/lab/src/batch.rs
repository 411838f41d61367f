//! Batches: many small things in one round trip, in strict order.

use crate::command::{CommandSpec, RunResult, exec_of, result_of};
use crate::error::LabError;
use crate::raw::syscall_result;
use crate::surface::Surface;
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
        let names: Vec<Option<String>> = entries.iter().map(BatchEntry::command).collect();
        let ops = entries.into_iter().map(BatchEntry::into_op).collect();
        let results = agent.lane.channel().batch(commands, raw, ops).await;
        let results = agent.checked(results).await?;
        let outcomes = results
            .into_iter()
            .zip(names)
            .map(|(result, command)| match result {
                Ok(reply) => {
                    BatchOutcome::of(reply, command).map_err(|other| agent.strange(&other))
                }
                Err(error) => Err(agent.remote(error)),
            });
        Ok(outcomes.collect())
    }
}

impl BatchEntry {
    fn command(&self) -> Option<String> {
        match self {
            Self::Run(spec) => Some(spec.to_string()),
            Self::Op(_) => None,
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
    fn of(reply: Reply, command: Option<String>) -> Result<Self, Reply> {
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
                let command = command.unwrap_or_default();
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
            other => return Err(other),
        })
    }
}
