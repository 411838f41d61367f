//! An operation that waits for its turn.

use crate::executor::call::Call;
use provium_protocol::Op;
use std::sync::Arc;

#[derive(Debug)]
pub(in crate::executor) struct QueuedOp {
    pub(in crate::executor) call: Arc<Call>,
    pub(in crate::executor) op: Op,
}

impl QueuedOp {
    /// Whether its caller still has to be informed that it waits.
    pub(super) fn reports_waiting(&self) -> bool {
        matches!(&self.op, Op::Syscall(call) if call.background) && !self.call.is_informed()
    }
}
