//! Raw syscalls that are still on their way.

use crate::error::LabError;
use crate::line::Line;
use provium_guest::{Call, CallError, SyscallResult};
use provium_protocol::message::Reply;
use provium_protocol::op::{Op, Syscall};
use serde_bytes::ByteBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// How long the guest may take to come to a call that is not awaited yet.
const ENTER: Duration = Duration::from_secs(3);

/// A raw syscall on a thread of its own. Dropping the last handle cancels it.
#[derive(Clone)]
pub struct PendingSyscall(Arc<Inner>);

struct Inner {
    line: Line,
    state: Mutex<State>,
    cancelled: watch::Sender<bool>,
}

enum State {
    Open(Call),
    Done(Result<SyscallResult, LabError>),
}

impl PendingSyscall {
    pub(crate) async fn start(line: Line, syscall: Syscall) -> Self {
        let op = Op::Syscall(Syscall {
            background: true,
            ..syscall
        });
        let mut call = line.lane.channel().open(line.lane.lane(), &op);
        // The thread exists once this event is here: whoever wakes it now wakes somebody. A call
        // that ends without it has its outcome in store, and one of a process that is stopped or busy
        // is in flight all the same.
        let _ = tokio::time::timeout(ENTER, call.event()).await;
        let (state, cancelled) = (Mutex::new(State::Open(call)), watch::Sender::new(false));
        Self(Arc::new(Inner {
            line,
            state,
            cancelled,
        }))
    }

    /// Its result; `None` if it has not returned within `timeout`. It may be awaited again.
    pub async fn wait(&self, timeout: Option<Duration>) -> Result<Option<SyscallResult>, LabError> {
        let mut cancelled = self.0.cancelled.subscribe();
        let wait = async {
            tokio::select! {
                biased;
                _ = cancelled.wait_for(|cancelled| *cancelled) => {
                    Err(self.0.line.invalid("it was cancelled"))
                }
                result = self.0.result() => result,
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

    /// Interrupts it in the guest. Over already is fine.
    pub async fn cancel(&self) {
        self.0.cancelled.send_replace(true);
        // Whoever waits has let go of the lock, or does so now.
        let mut state = self.0.state.lock().await;
        if matches!(*state, State::Open(_)) {
            *state = State::Done(Err(self.0.line.invalid("it was cancelled")));
        }
    }
}

impl Inner {
    async fn result(&self) -> Result<SyscallResult, LabError> {
        let mut state = self.state.lock().await;
        if let State::Open(call) = &mut *state {
            let reply = call.reply().await;
            *state = State::Done(self.told(reply).await);
        }
        match &*state {
            State::Done(result) => result.clone(),
            State::Open(_) => Err(self.line.invalid("it was cancelled")),
        }
    }

    async fn told(&self, reply: Result<Reply, CallError>) -> Result<SyscallResult, LabError> {
        match self.line.checked(reply).await? {
            Reply::Syscall {
                ret,
                errno,
                buffers,
            } => Ok(syscall_result(ret, errno, buffers)),
            other => Err(self.line.strange(&other)),
        }
    }
}

/// The wire's parts of a result, put together.
pub(crate) fn syscall_result(ret: i64, errno: i32, buffers: Vec<Option<ByteBuf>>) -> SyscallResult {
    let buffers = buffers
        .into_iter()
        .map(|buffer| buffer.map(ByteBuf::into_vec));
    SyscallResult {
        ret,
        errno,
        buffers: buffers.collect(),
    }
}
