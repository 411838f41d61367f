//! A lane and the requests that can be made to it. What uses streams is in files of its own.

use crate::channel::{Channel, typed};
use crate::error::CallError;
use crate::incoming::Sink;
use provium_protocol::message::{SpawnedWorker, SyscallResult};
use provium_protocol::op::{Batch, Syscall, WorkerSpec};
use provium_protocol::{Lane, Op, Reply, Request, WireError};

/// The VM or a worker of a guest, to which calls are sent. Cheap to clone.
///
/// Dropping a future of it cancels the call in the guest.
#[derive(Debug, Clone)]
pub struct LaneHandle {
    channel: Channel,
    lane: Lane,
}

impl LaneHandle {
    /// The channel it is of.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Its number.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Makes a request and waits for its reply. Dropping the future cancels the call.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn call<R: Request + Into<Op>>(&self, request: R) -> Result<R::Reply, CallError> {
        self.call_op::<R>(&request.into()).await
    }

    /// As [`LaneHandle::call`], of a request that is an operation already.
    ///
    /// # Errors
    /// As there; [`CallError::Unexpected`] also if `op` is another operation than `R`.
    pub async fn call_op<R: Request>(&self, op: &Op) -> Result<R::Reply, CallError> {
        let sinks = [Sink::Discard, Sink::Discard];
        let mut call = self.channel.open_into(self.lane, op, sinks);
        typed::<R>(call.reply().await?)
    }

    /// Runs operations in one round trip, in order; one result for each that was begun. If results grow
    /// large, the guest stops early: send the others again.
    ///
    /// # Errors
    /// As of [`LaneHandle::call`]; the failure of an operation is in its result.
    pub async fn batch(&self, ops: Vec<Op>) -> Result<Vec<Result<Reply, WireError>>, CallError> {
        let count = ops.len();
        let results = self.call(Batch { ops }).await?;
        if !(count.min(1)..=count).contains(&results.len()) {
            return Err(CallError::Unexpected(Batch::NAME));
        }
        Ok(results)
    }

    /// Makes a raw syscall. That the syscall itself failed is a result.
    ///
    /// # Errors
    /// As of [`LaneHandle::call`].
    pub async fn syscall(&self, request: Syscall) -> Result<SyscallResult, CallError> {
        let count = request.buffers.len();
        let result = self.call(request).await?;
        if result.buffers.len() != count {
            return Err(CallError::Unexpected(Syscall::NAME));
        }
        Ok(result)
    }
}

impl Channel {
    /// A lane of this guest.
    pub fn lane(&self, lane: Lane) -> LaneHandle {
        LaneHandle {
            channel: self.clone(),
            lane,
        }
    }

    /// Starts a worker. One whose reply is not awaited any more is retired.
    ///
    /// # Errors
    /// What the guest answers, and the end of the session.
    pub async fn spawn_worker(&self, spec: WorkerSpec) -> Result<SpawnedWorker, CallError> {
        let worker = self.lane(Lane::VM).call(spec).await?;
        if worker.lane < Lane::FIRST_WORKER {
            return Err(CallError::Unexpected(WorkerSpec::NAME));
        }
        Ok(worker)
    }
}
