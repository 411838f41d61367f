//! Raw syscalls: one after the other in the target's process, or each on a thread of its own.

use crate::error::LabError;
use crate::guest::context::CallContext;
use crate::guest::target::Target;
use crate::resource::{Close, CloseFuture, CloseOrder, Registration, ResourceId, Scope};
use provium_guest::{Call, CallError};
use provium_protocol::Lane;
use provium_protocol::message::{ErrorKind, Reply, SyscallResult};
use provium_protocol::op::{FromReply, Op, Request, Syscall};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// How long the guest may take to begin a call, before the test continues without that.
const ENTER_LIMIT: Duration = Duration::from_secs(3);

/// How long the end of a cancelled call is awaited. A guest that answers reports it earlier.
const CANCEL_LIMIT: Duration = Duration::from_secs(4);

/// Makes a raw syscall, which those that follow wait for.
pub(crate) async fn syscall(
    context: &CallContext,
    syscall: Syscall,
) -> Result<SyscallResult, LabError> {
    let made = context.lane.syscall(Syscall {
        background: false,
        ..syscall
    });
    context.explain(made.await).await
}

/// A raw syscall that has not returned. Its process does nothing else meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyscallInProgress {
    /// The owner of its process: ``vm `web` `` or ``worker 17 of vm `web` ``.
    pub owner: String,
    /// Its number, x86-64.
    pub nr: i64,
    /// How long ago it was sent.
    pub waiting: Duration,
}

/// The raw syscalls of a VM and its workers that have not returned.
pub(crate) fn in_progress(vm: &Target) -> Vec<SyscallInProgress> {
    let link = vm.vm().link();
    let calls = link.map(|link| link.channel.blocking_calls());
    let calls = calls
        .into_iter()
        .flatten()
        .map(|(lane, call)| SyscallInProgress {
            owner: if lane < Lane::FIRST_WORKER {
                vm.vm().subject()
            } else {
                format!("worker {} of {}", lane.0, vm.vm().subject())
            },
            nr: call.nr,
            waiting: call.waiting,
        });
    calls.collect()
}

/// A raw syscall on a thread of its own. It is cancelled when its scope ends, or the last handle is
/// dropped.
#[derive(Clone)]
pub struct PendingSyscall(Arc<Inner>);

struct Inner {
    context: CallContext,
    state: Mutex<State>,
    cancelled: watch::Sender<bool>,
    place: Registration,
}

enum State {
    Open(Call),
    Done(Result<SyscallResult, LabError>),
}

impl PendingSyscall {
    pub(crate) async fn start(context: CallContext, scope: &Scope, syscall: Syscall) -> Self {
        let op = Op::Syscall(Syscall {
            background: true,
            ..syscall
        });
        let mut call = context.lane.channel().open(context.lane.lane(), &op);
        // After this event the thread exists, so that a test can wake it, or the raw process cannot start
        // it now. A call that ends without an event has its outcome already, and one of a process that
        // is stopped or busy is in flight all the same.
        let _ = tokio::time::timeout(ENTER_LIMIT, call.event()).await;
        let (state, cancelled) = (Mutex::new(State::Open(call)), watch::Sender::new(false));
        let pending = Self(Arc::new(Inner {
            context,
            state,
            cancelled,
            place: Registration::default(),
        }));
        let key = (CloseOrder::Stream, ResourceId::next());
        let of_scope = Arc::new(ScopedSyscall(Arc::downgrade(&pending.0)));
        pending.0.place.take(scope, key, of_scope);
        pending
    }

    /// Its result; `None` if it has not returned within `timeout`. It may be awaited again.
    pub async fn wait(&self, timeout: Option<Duration>) -> Result<Option<SyscallResult>, LabError> {
        let mut cancelled = self.0.cancelled.subscribe();
        let wait = async {
            tokio::select! {
                biased;
                result = self.0.result() => result,
                _ = cancelled.wait_for(|cancelled| *cancelled) => {
                    Err(self.0.context.invalid("it was cancelled"))
                }
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

    /// Interrupts it in the guest. A call that has its result keeps it.
    pub async fn cancel(&self) {
        self.0.cancel().await;
    }
}

/// A pending syscall as its scope has it: only handles keep it.
struct ScopedSyscall(Weak<Inner>);

impl Close for ScopedSyscall {
    fn subject(&self) -> String {
        let pending = self.0.upgrade();
        pending.map_or_else(String::new, |pending| pending.context.subject.clone())
    }

    fn close(&self) -> CloseFuture<'_> {
        Box::pin(async {
            if let Some(pending) = self.0.upgrade() {
                pending.cancel().await;
            }
            Ok(())
        })
    }
}

impl Inner {
    async fn cancel(&self) {
        self.place.leave();
        if let Ok(state) = self.state.try_lock()
            && matches!(*state, State::Done(_))
        {
            return;
        }
        self.cancelled.send_replace(true);
        // A waiting caller has released the lock, or does so now.
        let mut state = self.state.lock().await;
        if let State::Open(call) = &mut *state {
            // Until it has ended in the guest, it could still take what is another's.
            call.cancel();
            let ended = tokio::time::timeout(CANCEL_LIMIT, call.reply()).await;
            *state = State::Done(match ended {
                Ok(Err(CallError::Remote(error))) if error.kind == ErrorKind::Cancelled => {
                    Err(self.context.invalid("it was cancelled"))
                }
                Ok(reply) => self.outcome(reply).await,
                Err(_) => Err(self.context.invalid("it was cancelled")),
            });
        }
    }

    async fn result(&self) -> Result<SyscallResult, LabError> {
        let mut state = self.state.lock().await;
        if let State::Open(call) = &mut *state {
            let reply = call.reply().await;
            *state = State::Done(self.outcome(reply).await);
            self.place.leave();
        }
        match &*state {
            State::Done(result) => result.clone(),
            State::Open(_) => Err(self.context.invalid("it was cancelled")),
        }
    }

    async fn outcome(&self, reply: Result<Reply, CallError>) -> Result<SyscallResult, LabError> {
        let reply = self.context.explain(reply).await?;
        SyscallResult::from_reply(reply).ok_or_else(|| self.context.unexpected(Syscall::NAME))
    }
}
