//! Raw syscalls: their results, and those that are still on their way.

use crate::error::LabError;
use crate::line::Line;
use provium_guest::{Call, CallError};
use provium_protocol::message::{ErrorKind, Reply};
use provium_protocol::op::{Op, Syscall};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// What a raw syscall came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyscallResult {
    /// What it returned; -1 on failure.
    pub ret: i64,
    /// 0, or the errno.
    pub errno: i32,
    /// One per buffer, in order; `None` for those that are not returned.
    pub buffers: Vec<Option<Vec<u8>>>,
}

impl SyscallResult {
    /// The result in a reply; the reply itself when it is of another kind.
    pub(crate) fn of(reply: Reply) -> Result<Self, Reply> {
        match reply {
            Reply::Syscall { ret, errno, buffers } => {
                let buffers = buffers.into_iter().map(|buffer| buffer.map(|bytes| bytes.into_vec()));
                Ok(Self { ret, errno, buffers: buffers.collect() })
            }
            other => Err(other),
        }
    }
}

/// A raw syscall on a thread of its own. Dropping the last handle cancels it.
#[derive(Clone)]
pub struct PendingSyscall {
    line: Arc<Line>,
    state: Arc<Mutex<State>>,
}

enum State {
    Open(Call),
    Done(Result<SyscallResult, LabError>),
    Cancelled,
}

impl PendingSyscall {
    pub(crate) async fn start(line: Line, syscall: Syscall) -> Result<Self, LabError> {
        let mut call = line.lane.open(Op::Syscall(Syscall { background: true, ..syscall }));
        // The thread exists once this event is here: whoever wakes it now wakes somebody. A call
        // that ends without it has its reply in store.
        let _ = call.event().await;
        let state = Arc::new(Mutex::new(State::Open(call)));
        Ok(Self { line: Arc::new(line), state })
    }

    /// Its result; `None` if it has not returned within `timeout`. It may be awaited again.
    pub async fn wait(&self, timeout: Option<Duration>) -> Result<Option<SyscallResult>, LabError> {
        let wait = async {
            let mut state = self.state.lock().await;
            if let State::Open(call) = &mut *state {
                let reply = call.reply().await;
                *state = State::Done(self.result(reply).await);
            }
            match &*state {
                State::Done(result) => result.clone(),
                State::Open(_) | State::Cancelled => Err(self.line.invalid("it was cancelled")),
            }
        };
        match timeout {
            None => wait.await.map(Some),
            Some(limit) => match tokio::time::timeout(limit, wait).await {
                Ok(result) => result.map(Some),
                Err(_) => Ok(None),
            },
        }
    }

    /// Interrupts it. Over already is fine.
    pub async fn cancel(&self) -> Result<(), LabError> {
        let mut state = self.state.lock().await;
        if let State::Open(call) = &mut *state {
            call.cancel();
            // Answered too: with its result if it was quicker.
            let reply = call.reply().await;
            *state = match reply {
                Err(CallError::Remote(error)) if error.kind == ErrorKind::Cancelled => State::Cancelled,
                reply => State::Done(self.result(reply).await),
            };
        }
        Ok(())
    }

    async fn result(&self, reply: Result<Reply, CallError>) -> Result<SyscallResult, LabError> {
        let reply = self.line.checked(reply).await?;
        SyscallResult::of(reply).map_err(|other| self.line.strange(&other))
    }
}
