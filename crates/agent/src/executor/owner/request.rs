//! The request that a raw process works on. One is posted at a time; a raw call with large buffers takes
//! several: map, call, unmap.

use super::raw_call::RawCall;
use crate::executor::call::Call;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an operation waits for a busy raw process.
const FORK_BESIDE_AFTER: Duration = Duration::from_millis(5);
/// How long a call waits before its caller is informed that it waits.
pub(super) const NOTIFY_AFTER: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) enum Request {
    /// Memory for the call that follows.
    Map(RawCall),
    Call(RawCall),
    Unmap,
    Thread {
        index: usize,
        raw: RawCall,
    },
    /// Memory for the payload that follows.
    Load {
        slot: usize,
        payload: Vec<u8>,
    },
    Fork {
        slot: usize,
    },
    Worker {
        slot: usize,
    },
    Open(OpenRequest),
    Close {
        call: Arc<Call>,
    },
    Root(#[expect(dead_code, reason = "open until the raw process has taken it")] OwnedFd),
}

#[derive(Debug)]
pub(super) struct OpenRequest {
    pub(super) call: Arc<Call>,
    pub(super) path: Vec<u8>,
    pub(super) flags: i32,
    pub(super) perm: u32,
}

/// A request since it was posted.
#[derive(Debug)]
pub(super) struct PostedRequest {
    pub(super) request: Request,
    pub(super) since: Instant,
    /// The caller was informed that it waits.
    informed: bool,
}

impl PostedRequest {
    pub(super) fn now(request: Request) -> Self {
        Self {
            request,
            since: Instant::now(),
            informed: false,
        }
    }

    /// Whether the raw process is in a raw call (or opening or closing) of this call.
    pub(super) fn is_of(&self, call: &Call) -> bool {
        let of = match &self.request {
            Request::Map(raw) | Request::Call(raw) => &raw.call,
            Request::Open(open) => &open.call,
            Request::Close { call } => call,
            _ => return false,
        };
        of.id == call.id
    }

    /// The call in the background that this request prepares.
    fn background_call(&self) -> Option<&Arc<Call>> {
        match &self.request {
            Request::Map(raw) | Request::Thread { raw, .. } => Some(&raw.call),
            _ => None,
        }
    }

    /// Whether its caller still has to be informed that it waits.
    pub(super) fn reports_waiting(&self) -> bool {
        self.background_call().is_some() && !self.informed
    }

    /// Marks the caller as informed; returns the call if it was not.
    pub(super) fn set_informed(&mut self) -> Option<Arc<Call>> {
        if std::mem::replace(&mut self.informed, true) {
            return None;
        }
        self.background_call().cloned()
    }

    /// The slot of the process that the raw process forks.
    pub(super) fn slot(&self) -> Option<usize> {
        match self.request {
            Request::Load { slot, .. } | Request::Fork { slot } | Request::Worker { slot } => {
                Some(slot)
            }
            _ => None,
        }
    }

    /// How long operations wait for it. What makes processes does not block; but it may be stopped.
    pub(super) fn relief_after(&self) -> Duration {
        match self.request {
            Request::Call(_) | Request::Open(_) | Request::Close { .. } => FORK_BESIDE_AFTER,
            _ => NOTIFY_AFTER,
        }
    }

    pub(super) fn is_raw_call(&self) -> bool {
        matches!(self.request, Request::Call(_))
    }

    pub(super) fn executes(&self) -> bool {
        matches!(&self.request, Request::Call(raw) if raw.executes())
    }
}
