//! What the threads of an executor hand to each other: jobs to the main thread, started commands to the
//! I/O thread, the rest of an op to a thread of its own.

use super::call::Call;
use crate::failure::OpResult;
use provium_protocol::op::WorkerSpec;
use provium_protocol::{Channel, Lane, Op};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Something for the main thread to do.
pub(crate) struct Job {
    pub(crate) call: Arc<Call>,
    pub(crate) work: Work,
}

/// What it is.
pub(crate) enum Work {
    Op(Op),
    /// A worker that is to serve `lane` through `socket`.
    Worker {
        spec: WorkerSpec,
        lane: Lane,
        socket: OwnedFd,
    },
}

/// What is left of an op.
pub(crate) type Rest = Box<dyn FnOnce(&super::Shared, &Call) -> OpResult + Send>;

/// How far an op got on the main thread.
pub(crate) enum Outcome {
    /// To its end.
    Done(OpResult),
    /// The rest may wait, so a thread of its own does it.
    Continue(Rest),
    /// The I/O thread will answer.
    HandedOver,
}

impl Outcome {
    pub(crate) fn later(
        work: impl FnOnce(&super::Shared, &Call) -> OpResult + Send + 'static,
    ) -> Self {
        Self::Continue(Box::new(work))
    }
}

impl From<OpResult> for Outcome {
    fn from(result: OpResult) -> Self {
        Self::Done(result)
    }
}

/// What a command consists of that the main thread has started.
pub(super) struct Started {
    pub(super) call: Arc<Call>,
    pub(super) pid: i32,
    pub(super) started: u64,
    pub(super) end: OwnedFd,
    pub(super) outputs: Vec<(Channel, OwnedFd)>,
    pub(super) input: Option<OwnedFd>,
    /// Bytes for the input, instead of those that the host sends.
    pub(super) input_bytes: Option<Vec<u8>>,
    pub(super) terminal: bool,
    /// Keep at most so many bytes of each output for the reply.
    pub(super) collect: Option<usize>,
}
