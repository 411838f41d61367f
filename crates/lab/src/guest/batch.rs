//! Batches: many small things in one round trip, in strict order.
//!
//! The guest's agent holds the content of an entry until its turn comes. So a batch with much content is sent
//! in several requests, and an entry with much content is sent alone, as a stream: the guest
//! need not be larger than without a batch.

use crate::error::LabError;
use crate::guest::command::{CommandSpec, RunResult, missing_shell, result_of, too_big};
use crate::guest::context::CallContext;
use crate::guest::describe::describe;
use crate::guest::ops::{GuestOps, WriteMode};
use provium_guest::{CapturedOutput, DEFAULT_MAX_OUTPUT};
use provium_protocol::message::{DirEntry, ErrorKind, FileStat, Reply, SyscallResult};
use provium_protocol::op::{Batch, FromReply, Op, Program, Request, Stdin};
use std::collections::VecDeque;

/// Output that a batch keeps of each of its commands' streams where `max_output` does not say, bytes.
const BATCH_OUTPUT: usize = 4 * 1024 * 1024;

/// Size of one request's entries, at most, bytes.
const REQUEST: usize = 4 * 1024 * 1024;

/// An entry of more than this is sent alone, bytes.
const ALONE: usize = 1024 * 1024;

/// Size of all results of a batch, at most, bytes.
const RESULTS: usize = 256 * 1024 * 1024;

/// One thing to do in a batch.
#[derive(Debug, Clone)]
pub enum BatchEntry {
    /// Run a command.
    Run(CommandSpec),
    /// Anything by path, or a raw syscall.
    Op(Op),
}

/// The result of an entry of a batch.
#[derive(Debug, Clone)]
pub enum BatchOutcome {
    /// A command's result.
    Run(RunResult),
    /// A file's content.
    Bytes(Vec<u8>),
    /// Bytes written.
    Count(u64),
    /// Metadata.
    Stat(FileStat),
    /// A folder's entries.
    Entries(Vec<DirEntry>),
    /// Done, and nothing to say.
    Done,
    /// A raw syscall's result.
    Syscall(SyscallResult),
}

impl GuestOps {
    /// Does all entries in strict order, small ones in one round trip; one that fails does not stop the
    /// next.
    pub async fn batch(
        &self,
        entries: Vec<BatchEntry>,
    ) -> Result<Vec<Result<BatchOutcome, LabError>>, LabError> {
        let context = CallContext::new(self.target(), format!("batch({} entries)", entries.len()))?;
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut held = 0;
        let mut rest = VecDeque::from(entries);
        while let Some(first) = rest.front() {
            if held > RESULTS {
                let why = format!("the batch's results are over {} MiB", RESULTS >> 20);
                let context = context.with_subject(context.subject.clone(), first.call());
                outcomes.push(Err(context.invalid(why)));
                rest.pop_front();
            } else if let Some(why) = first.excess(&context.subject) {
                outcomes.push(Err(why));
                rest.pop_front();
            } else if first.is_alone() {
                if let Some(entry) = rest.pop_front() {
                    let outcome = self.alone(entry).await?;
                    held += size_of_result(&outcome);
                    outcomes.push(outcome);
                }
            } else {
                let count = leading(&rest);
                for outcome in self.together(&context, &mut rest, count).await? {
                    held += size_of_result(&outcome);
                    outcomes.push(outcome);
                }
            }
        }
        Ok(outcomes)
    }

    /// Carries out the first entries in one request, and removes those that were begun.
    async fn together(
        &self,
        context: &CallContext,
        rest: &mut VecDeque<BatchEntry>,
        count: usize,
    ) -> Result<Vec<Result<BatchOutcome, LabError>>, LabError> {
        let ops = rest.iter().take(count).map(BatchEntry::op).collect();
        let results = context.lane.batch(ops).await;
        let results = context.explain(results).await?;
        let begun: Vec<_> = rest.drain(..results.len()).collect();
        let mut outcomes = Vec::with_capacity(begun.len());
        for (result, entry) in results.into_iter().zip(begun) {
            let context = context.with_subject(context.subject.clone(), entry.call());
            outcomes.push(match result {
                Ok(reply) => BatchOutcome::of(reply, &entry, &context),
                // What it gives does not fit into a reply.
                Err(error) if error.kind == ErrorKind::TooLarge => self.alone(entry).await?,
                Err(error) => Err(entry.explained(context.remote(error))),
            });
        }
        Ok(outcomes)
    }

    /// Does an entry as the call of its own that it could have been.
    async fn alone(&self, entry: BatchEntry) -> Result<Result<BatchOutcome, LabError>, LabError> {
        let outcome = match entry {
            BatchEntry::Run(spec) => self.run(spec, None).await.map(BatchOutcome::Run),
            BatchEntry::Op(Op::WriteFile {
                path,
                perm,
                append,
                content: Some(content),
            }) => {
                let mode = WriteMode { perm, append };
                let written = self.write_file(&path, &content, mode).await;
                written.map(BatchOutcome::Count)
            }
            BatchEntry::Op(Op::ReadFile { path, .. }) => {
                self.read_file(&path).await.map(BatchOutcome::Bytes)
            }
            BatchEntry::Op(_) => {
                let context = CallContext::new(self.target(), "batch()")?;
                return Err(context.invalid("only commands and files go out alone"));
            }
        };
        match outcome {
            // The guest is gone, and the other entries with it.
            Err(
                error @ (LabError::Dead { .. } | LabError::Gone { .. } | LabError::State { .. }),
            ) => Err(error),
            outcome => Ok(outcome),
        }
    }
}

/// How many of the first entries go into one request; at least one.
fn leading(entries: &VecDeque<BatchEntry>) -> usize {
    let mut carried = 0;
    let fits = |entry: &&BatchEntry| {
        carried += entry.carries();
        carried <= REQUEST && !entry.is_alone() && !entry.is_too_big()
    };
    entries.iter().take_while(fits).count().max(1)
}

fn size_of_result(outcome: &Result<BatchOutcome, LabError>) -> usize {
    match outcome {
        Ok(BatchOutcome::Run(ran)) => ran.stdout.len() + ran.stderr.len(),
        Ok(BatchOutcome::Bytes(bytes)) => bytes.len(),
        Ok(BatchOutcome::Syscall(made)) => made.buffers.iter().flatten().map(Vec::len).sum(),
        _ => 0,
    }
}

impl BatchEntry {
    /// The call as the author would have written it alone.
    fn call(&self) -> String {
        match self {
            Self::Run(spec) => format!("run({spec})"),
            Self::Op(op) => describe(op),
        }
    }

    fn op(&self) -> Op {
        match self {
            Self::Op(op) => op.clone(),
            Self::Run(spec) => {
                let mut exec = spec.request(false);
                let kept = spec.max_output.min(BATCH_OUTPUT);
                exec.collect = Some(u32::try_from(kept).unwrap_or(u32::MAX));
                Op::Exec(exec)
            }
        }
    }

    /// About how many bytes it adds to a request.
    fn carries(&self) -> usize {
        const HEADER: usize = 64;
        let carried = match self {
            Self::Run(spec) => {
                let words = match &spec.exec.program {
                    Program::Shell(text) => text.len(),
                    Program::Argv(words) => words.iter().map(|word| word.len() + HEADER).sum(),
                };
                let variables = spec.exec.env.iter();
                let variables = variables.map(|(name, value)| name.len() + value.len() + HEADER);
                let input = match &spec.exec.stdin {
                    Stdin::Bytes(bytes) => bytes.len(),
                    Stdin::Null | Stdin::Channel => 0,
                };
                words + variables.sum::<usize>() + input
            }
            Self::Op(Op::WriteFile { path, content, .. }) => {
                path.len() + content.as_ref().map_or(0, |content| content.len())
            }
            Self::Op(Op::Syscall(call)) => {
                let buffers = call.buffers.iter();
                let links = call.nested.len() * HEADER;
                let buffers = buffers.map(|buffer| buffer.content.len() + HEADER);
                buffers.sum::<usize>() + links
            }
            Self::Op(_) => 0,
        };
        carried + HEADER
    }

    /// Whether it is sent alone, as a stream.
    fn is_alone(&self) -> bool {
        match self {
            // The test requested more output than a batch holds.
            Self::Run(spec) if spec.max_output > BATCH_OUTPUT => {
                spec.max_output != DEFAULT_MAX_OUTPUT || self.carries() > ALONE
            }
            Self::Run(_) | Self::Op(Op::WriteFile { .. }) => self.carries() > ALONE,
            Self::Op(_) => false,
        }
    }

    /// Why it is not sent at all.
    fn excess(&self, subject: &str) -> Option<LabError> {
        match self {
            Self::Run(spec) => spec
                .excess()
                .map(|excess| too_big(subject.to_owned(), self.call(), excess)),
            Self::Op(_) => None,
        }
    }

    fn is_too_big(&self) -> bool {
        matches!(self, Self::Run(spec) if spec.excess().is_some())
    }

    fn explained(&self, error: LabError) -> LabError {
        match self {
            Self::Run(spec) => missing_shell(&spec.exec.program, error),
            Self::Op(_) => error,
        }
    }
}

impl BatchOutcome {
    fn of(reply: Reply, entry: &BatchEntry, context: &CallContext) -> Result<Self, LabError> {
        Ok(match reply {
            Reply::Ran {
                exit,
                stdout,
                stderr,
                stdout_dropped,
                stderr_dropped,
            } => {
                let command = match entry {
                    BatchEntry::Run(spec) => spec.to_string(),
                    BatchEntry::Op(_) => String::new(),
                };
                let captured = |bytes: serde_bytes::ByteBuf, dropped| CapturedOutput {
                    // As much of the beginning as of the end is kept.
                    gap_at: bytes.len() / 2,
                    bytes: bytes.into_vec(),
                    dropped,
                };
                let stdout = captured(stdout, stdout_dropped);
                let stderr = captured(stderr, stderr_dropped);
                Self::Run(result_of(command, exit, false, stdout, stderr))
            }
            Reply::Bytes(bytes) => Self::Bytes(bytes.into_vec()),
            Reply::Count(count) => Self::Count(count),
            Reply::Stat(stat) => Self::Stat(stat),
            Reply::Entries(entries) => Self::Entries(entries),
            Reply::Done => Self::Done,
            reply => match SyscallResult::from_reply(reply) {
                Some(result) => Self::Syscall(result),
                None => return Err(context.unexpected(Batch::NAME)),
            },
        })
    }
}
