//! A batch: entries that run one after the other, each started when the previous one has its result.
//!
//! Large results end a batch early; the host then sends the remaining entries again. So neither the
//! request nor the reply is ever large, whatever the total size of the entries.

use super::call::{Call, EntryRecipient, Recipient, lock};
use super::owner::{Owner, QueuedOp};
use super::shared::Shared;
use crate::failure::{self, OpResult};
use provium_protocol::{CallId, Op, Reply};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Size of the results at which the batch ends early, bytes.
const ENOUGH: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Batch {
    shared: Arc<Shared>,
    call: Arc<Call>,
    owner: Arc<Owner>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left: VecDeque<Op>,
    results: Vec<OpResult>,
    size: usize,
    /// The entry that was started.
    open: Option<Arc<Call>>,
    next: u32,
    /// A thread is starting entries; other threads that have a result leave the next entry to it.
    stepping: bool,
}

impl Batch {
    /// Starts it; `call` gets the results.
    pub(super) fn begin(
        shared: &Arc<Shared>,
        owner: &Arc<Owner>,
        call: Arc<Call>,
        ops: Vec<Op>,
    ) -> Arc<Self> {
        let batch = Arc::new(Self {
            shared: Arc::clone(shared),
            owner: Arc::clone(owner),
            call,
            state: Mutex::new(State {
                results: Vec::with_capacity(ops.len()),
                left: ops.into(),
                size: 0,
                open: None,
                next: CallId::FIRST_INTERNAL.0,
                stepping: false,
            }),
        });
        Self::step(&batch);
        batch
    }

    /// The running entry, which a cancel of the batch has to end.
    pub(super) fn current(&self) -> Option<Arc<Call>> {
        lock(&self.state).open.clone()
    }

    /// Starts entries as long as they complete at once.
    fn step(self: &Arc<Self>) {
        loop {
            let mut state = lock(&self.state);
            if state.stepping || state.open.is_some() {
                return;
            }
            if self.call.is_cancelled() {
                drop(state);
                return self
                    .shared
                    .calls
                    .finish(&self.call, Err(failure::cancelled()));
            }
            let enough = state.size > ENOUGH && !state.results.is_empty();
            let Some(op) = state.left.pop_front().filter(|_| !enough) else {
                let results = std::mem::take(&mut state.results);
                drop(state);
                return self
                    .shared
                    .calls
                    .finish(&self.call, Ok(Reply::Batch(results)));
            };
            if !op.fits_batch() {
                state.results.push(Err(failure::invalid(
                    "an op of a batch can use no channels and start no workers",
                )));
                continue;
            }
            let id = CallId(state.next);
            state.next += 1;
            let recipient = Recipient::Batch(Arc::<Self>::clone(self));
            let call = Arc::new(Call::new(id, self.owner.lane, recipient, Some(&op)));
            self.shared.calls.begun(&call);
            state.open = Some(Arc::clone(&call));
            state.stepping = true;
            drop(state);
            match self.owner.refusal() {
                Some(error) => self.shared.calls.finish(&call, Err(error)),
                None => self.owner.push(&self.shared, QueuedOp { call, op }),
            }
            lock(&self.state).stepping = false;
        }
    }
}

impl EntryRecipient for Batch {
    fn entry_finished(self: Arc<Self>, entry: CallId, result: OpResult) {
        {
            let mut state = lock(&self.state);
            if state.open.as_ref().is_none_or(|open| open.id != entry) {
                return;
            }
            state.open = None;
            state.size += size_of_result(&result);
            state.results.push(result);
        }
        Self::step(&self);
    }
}

fn size_of_result(result: &OpResult) -> usize {
    const FRAME: usize = 64;
    FRAME
        + match result {
            Ok(Reply::Bytes(bytes)) => bytes.len(),
            Ok(Reply::Ran { stdout, stderr, .. }) => stdout.len() + stderr.len(),
            Ok(Reply::Syscall { buffers, .. }) => {
                buffers.iter().flatten().map(|bytes| bytes.len()).sum()
            }
            Ok(Reply::Entries(entries)) => {
                entries.iter().map(|entry| FRAME + entry.name.len()).sum()
            }
            _ => 0,
        }
}
