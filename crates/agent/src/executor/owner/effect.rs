//! What a turn of an owner does to others, after the owner's lock was released.

use crate::executor::call::Call;
use crate::executor::shared::Shared;
use crate::failure::OpResult;
use provium_protocol::Event;
use std::sync::Arc;

#[derive(Debug)]
pub(super) enum Effect {
    Finish(Arc<Call>, OpResult),
    /// Bytes for the output channel, and an encoded result.
    FinishEncoded(Arc<Call>, Vec<u8>, Vec<u8>),
    Notify(Arc<Call>, Event),
}

impl Effect {
    pub(super) fn apply(self, shared: &Shared) {
        let calls = &shared.calls;
        match self {
            Self::Finish(call, result) => calls.finish(&call, result),
            Self::FinishEncoded(call, data, message) => {
                calls.finish_encoded(&call, &data, &message);
            }
            Self::Notify(call, event) => calls.event(&call, &event),
        }
    }
}
