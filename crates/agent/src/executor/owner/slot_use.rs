//! The use of a slot of the shared memory: an operation process, or a worker that is being started.

use crate::executor::call::Call;
use crate::sys::area::Area;
use crate::sys::memory;
use crate::sys::process::ExitStatus;
use crate::sys::slot::{Message, Ticket};
use provium_protocol::Op;
use provium_protocol::frame::MAX_MESSAGE;
use provium_protocol::op::WorkerSpec;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct SlotUse {
    pub(super) call: Arc<Call>,
    pub(super) ticket: Ticket,
    /// The operation, to start it again if the raw process ends before the operation process was forked.
    pub(super) op: Option<Op>,
    /// Once it is known.
    pub(super) pid: Option<i32>,
    pub(super) ending: Option<ExitStatus>,
    /// It was passed to the main thread, which answers the call.
    pub(super) handed_over: bool,
    pub(super) input_bytes: Option<Vec<u8>>,
    pub(super) worker: Option<NewWorker>,
    pub(super) command: Option<CommandUse>,
    /// It is a connection to a server.
    pub(super) is_connection: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct CommandUse {
    pub(super) terminal: bool,
    /// The most bytes of each output that are kept for the reply.
    pub(super) collect: Option<usize>,
}

/// A worker that is being started.
#[derive(Debug)]
pub(super) struct NewWorker {
    pub(super) area: Area,
    pub(super) generation: u64,
    pub(super) spec: WorkerSpec,
}

impl SlotUse {
    pub(super) fn new(call: Arc<Call>) -> Self {
        Self {
            call,
            ticket: Ticket::next(),
            op: None,
            pid: None,
            ending: None,
            handed_over: false,
            input_bytes: None,
            worker: None,
            command: None,
            is_connection: false,
        }
    }

    /// Whether the first process of a worker has ended because another one continues its work.
    pub(super) fn is_succeeded(&self, ending: ExitStatus) -> bool {
        self.worker.as_ref().is_some_and(NewWorker::forks_again) && ending == ExitStatus::Exited(0)
    }
}

impl NewWorker {
    /// Whether its raw process is a grandchild of the one that forks it.
    pub(super) fn forks_again(&self) -> bool {
        self.has_namespace("pid") || self.has_namespace("time")
    }

    pub(super) fn has_namespace(&self, name: &str) -> bool {
        self.spec.namespaces.iter().any(|space| space == name)
    }
}

/// The bytes of a result that a process has left.
pub(super) fn message_of(message: Message, pid: i32) -> Vec<u8> {
    match message {
        Message::Here(bytes) => bytes,
        Message::There { address, len } => {
            memory::read_of(pid, address, len.min(MAX_MESSAGE)).unwrap_or_default()
        }
    }
}
