//! Workers: further processes of the agent's in the same guest, each with identity, descriptors and
//! memory of its own, so that what one does delays and changes no other.

use crate::error::LabError;
use crate::guest::context::CallContext;
use crate::guest::kill::end_all;
use crate::guest::ops::GuestOps;
use crate::guest::wait::is_stopped;
use crate::guest::worker_state::WorkerState;
use crate::lock::lock;
use crate::resource::{Close, CloseFuture, CloseOrder, GuestKey, Registration, ResourceId, Scope};
use futures_util::future::join_all;
use provium_guest::CallError;
use provium_protocol::message::{ErrorKind, SpawnedWorker};
use provium_protocol::op::{Join, RetireWorker, SignalAll, WorkerSpec};
use provium_protocol::{Lane, Op};
use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// Interval between two looks whether a worker's process is stopped.
const STOPPED_INTERVAL: Duration = Duration::from_secs(1);

/// A worker.
#[derive(Clone)]
pub struct Worker(Arc<Inner>);

struct Inner {
    ops: GuestOps,
    state: Arc<WorkerState>,
    place: Registration,
}

impl Worker {
    /// Starts a worker of the VM that `vm` is the operations of, as a copy of the process that makes the VM's
    /// raw syscalls.
    pub(crate) async fn spawn(
        vm: &GuestOps,
        scope: &Scope,
        spec: WorkerSpec,
    ) -> Result<Self, LabError> {
        let context = CallContext::of_agent(vm.target(), "spawn_worker()")?;
        let spawned = context.lane.channel().spawn_worker(spec).await;
        let SpawnedWorker { lane, pid } = context.explain_start(spawned).await?;
        let (id, epoch) = (ResourceId::next(), context.made_now()?.epoch);
        let state = Arc::new(WorkerState::new(id, lane, pid, epoch));
        let worker = Self::new(vm.with_worker(Arc::clone(&state)), state);
        let key = (CloseOrder::Worker, id);
        worker.0.place.take(scope, key, Arc::new(worker.clone()));
        Ok(worker)
    }

    fn new(ops: GuestOps, state: Arc<WorkerState>) -> Self {
        Self(Arc::new(Inner {
            ops,
            state,
            place: Registration::default(),
        }))
    }

    /// The same worker in a clone of its VM, whose operations on it are `ops`.
    pub(crate) fn rebind(ops: GuestOps) -> Option<Self> {
        let state = Arc::clone(ops.target().worker()?);
        Some(Self::new(ops, state))
    }

    /// The number of the resource, which its clones have, too.
    pub fn id(&self) -> ResourceId {
        self.0.state.id
    }

    /// The number that the agent knows it by.
    pub fn handle(&self) -> u32 {
        self.0.state.lane.0
    }

    /// Its process id in the guest.
    pub fn pid(&self) -> u32 {
        self.0.state.pid
    }

    /// Its name in messages.
    pub fn subject(&self) -> String {
        self.0.ops.target().subject()
    }

    /// Its commands, files and syscalls.
    pub fn ops(&self) -> &GuestOps {
        &self.0.ops
    }

    /// Signals every command that it has in flight from `run_async`; how many. A worker whose process
    /// has ended has none.
    pub async fn kill(&self, signal: i32) -> Result<u64, LabError> {
        let context = self.context(format!("kill({signal})"))?;
        if !context.lane.may_have_background_commands() {
            return Ok(0);
        }
        let signalled = context.lane.call(SignalAll {
            signal,
            everything: false,
        });
        match context.while_answering(None, signalled).await? {
            Err(error) if has_ended(&error).is_some() => Ok(0),
            count => context.explain(count).await,
        }
    }

    /// Waits for all its commands, those of `run` among them, and ends it; the worst of their exit codes,
    /// 128 + signal for one that was killed, 0 if there were none. Where its own process has ended, how
    /// that ended counts, too.
    pub async fn join(&self) -> Result<i32, LabError> {
        let context = self.context("join()")?;
        let mut worst = 0;
        for child in self.0.ops.handles().processes.held() {
            match child.wait(None).await {
                Ok(result) => worst = worst.max(result.status.shell_code()),
                // Reported by the agent, below.
                Err(LabError::ExecutorDied { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let runs = context.lane.commands_in_flight();
        for exit in join_all(runs.iter().map(|run| run.wait())).await {
            let code = exit.ok().and_then(|exit| {
                let signalled = exit.signal.map(|signal| 128 + signal);
                signalled.or(exit.code)
            });
            worst = worst.max(code.unwrap_or(0));
        }
        // The agent keeps its own books: of those that were closed, and of what it still has. Nothing is
        // in flight any more, so only a process that is stopped does not answer.
        let joined = tokio::select! {
            joined = context.lane.call(Join) => joined.map(|joined| joined.exit_code),
            () = self.stopped() => Ok(0),
        };
        let code = match joined {
            Ok(code) => code,
            Err(error) => match has_ended(&error) {
                Some(code) => code,
                None => context.explain(Err(error)).await?,
            },
        };
        worst = worst.max(code);
        self.retire("the worker was joined").await?;
        Ok(worst)
    }

    /// Returns once its process is found stopped.
    async fn stopped(&self) {
        loop {
            tokio::time::sleep(STOPPED_INTERVAL).await;
            if is_stopped(self.0.ops.target(), self.pid()).await {
                return;
            }
        }
    }

    /// Ends it: SIGTERM to all its commands, SIGKILL to those still there after 2 s, then its own
    /// process. Closed, joined or lost already is fine.
    ///
    /// # Errors
    /// When the guest does not carry that out in time. The worker is gone all the same, and the guest
    /// ends it as soon as it can.
    pub async fn close(&self) -> Result<(), LabError> {
        if let Ok(context) = self.context("close()") {
            let commands = context.lane.commands_in_flight();
            let commands: Vec<_> = commands.iter().collect();
            // Those that are left are ended with the worker's process.
            let _ = end_all(&commands).await;
        }
        self.retire("the worker is closed").await
    }

    async fn retire(&self, why: &'static str) -> Result<(), LabError> {
        let vm = self.0.ops.target().vm();
        if !self.0.state.leave(&lock(vm.timeline()), why) {
            return Ok(());
        }
        self.0.place.leave();
        self.0.state.end_streams().await;
        let retired = self.end_process().await;
        self.0.ops.handles().files.close().await;
        retired
    }

    /// Ends its process with all that it owns.
    async fn end_process(&self) -> Result<(), LabError> {
        let target = self.0.ops.target();
        if target.why_invalid(self.0.state.epoch).is_some() {
            // The guest it worked in has been reset: nothing is left of it.
            return Ok(());
        }
        let vm = target.vm();
        let Some(link) = vm.link() else {
            // The guest is off or dead.
            return Ok(());
        };
        let (channel, lane) = (link.channel, self.0.state.lane);
        if vm.is_paused() {
            channel.post(Lane::VM, &Op::RetireWorker { lane });
            let why = "the VM is paused; the worker is ended once it is resumed";
            return Err(LabError::gone(self.subject(), "close()", why));
        }
        let context = CallContext::of_agent(&target.without_worker(), "close()")?;
        let context = context.with_subject(self.subject(), "close()");
        // It continues when it is not awaited any more.
        let retired = vm
            .runtime()
            .spawn(async move { channel.lane(Lane::VM).call(RetireWorker { lane }).await });
        match context.while_answering(None, retired).await? {
            Ok(retired) => context.explain(retired).await,
            Err(error) => Err(LabError::host(self.subject(), "close()", error)),
        }
    }

    fn context(&self, call: impl Into<String>) -> Result<CallContext, LabError> {
        CallContext::new(self.0.ops.target(), call)
    }
}

/// How the process that a call was sent to has ended, as a shell counts, if that is why it failed. The
/// agent says it in words: `exited with status 3`, `was killed by SIGKILL (signal 9)`.
fn has_ended(error: &CallError) -> Option<i32> {
    let CallError::Remote(error) = error else {
        return None;
    };
    if error.kind != ErrorKind::LaneDied {
        return None;
    }
    let number_after = |word: &str| -> Option<i32> {
        let (_, rest) = error.message.rsplit_once(word)?;
        let end = rest.find(|digit: char| !digit.is_ascii_digit());
        rest[..end.unwrap_or(rest.len())].parse().ok()
    };
    let signalled = number_after("signal ").map(|signal| 128 + signal);
    Some(signalled.or_else(|| number_after("status ")).unwrap_or(0))
}

/// The workers of a VM that have a handle.
#[derive(Debug, Default)]
pub(crate) struct Workers(Mutex<Vec<Weak<Inner>>>);

impl Workers {
    pub(crate) fn add(&self, worker: &Worker) {
        let mut held = lock(&self.0);
        held.retain(|worker| worker.strong_count() > 0);
        held.push(Arc::downgrade(&worker.0));
    }

    /// The VM was restored: scopes own those again that exist again.
    pub(crate) fn come_back(&self) {
        let held: Vec<_> = {
            let held = lock(&self.0);
            held.iter().filter_map(Weak::upgrade).map(Worker).collect()
        };
        for worker in held {
            let target = worker.0.ops.target();
            if target.why_gone().is_none() && target.has(worker.0.state.epoch) {
                worker.0.place.take_again(Arc::new(worker.clone()));
            }
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.ops.target().subject())
    }
}

impl Close for Worker {
    fn subject(&self) -> String {
        Self::subject(self)
    }

    fn close(&self) -> CloseFuture<'_> {
        Box::pin(Self::close(self))
    }

    fn guest(&self) -> Option<GuestKey> {
        Some(self.0.ops.target().vm().key())
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Worker").field(&self.subject()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_protocol::message::WireError;

    #[test]
    fn an_end_is_read_as_a_shell_counts() {
        let code = |kind, message: &str| {
            has_ended(&CallError::Remote(WireError {
                kind,
                errno: 0,
                message: format!("its process in the guest {message}"),
            }))
        };
        assert_eq!(
            code(ErrorKind::LaneDied, "was killed by SIGKILL (signal 9)"),
            Some(137)
        );
        assert_eq!(
            code(ErrorKind::LaneDied, "was killed by signal 34"),
            Some(162)
        );
        assert_eq!(code(ErrorKind::LaneDied, "exited with status 3"), Some(3));
        assert_eq!(
            code(ErrorKind::LaneDied, "ended in an unknown way"),
            Some(0)
        );
        assert_eq!(code(ErrorKind::Invalid, "exited with status 3"), None);
    }
}
