//! Calls that block others: raw syscalls that have not returned, and calls that use a descriptor.

use crate::channel::Channel;
use crate::kind::CallKind;
use crate::lane::LaneHandle;
use provium_protocol::{Descriptor, Lane};
use std::time::Duration;

/// A raw syscall that has not returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockingCall {
    /// Its number, x86-64.
    pub nr: i64,
    /// How long ago it was sent.
    pub waiting: Duration,
}

impl LaneHandle {
    /// Cancels the calls that use a descriptor, before it is closed: they may block in it for ever. Their
    /// callers get the error that they were cancelled.
    pub fn cancel_calls_on(&self, fd: Descriptor) {
        self.channel().shared().with(|channel| {
            for call in channel.calls.of_lane(self.lane()) {
                if call.kind() == (CallKind::Descriptor { fd }) {
                    channel.abandon(&call);
                }
            }
        });
    }
}

impl Channel {
    /// The raw syscalls that have not returned, the oldest of each lane.
    pub fn blocking_calls(&self) -> Vec<(Lane, BlockingCall)> {
        let lanes = self.shared().with(|channel| channel.calls.lanes());
        let blocking = lanes
            .into_iter()
            .filter_map(|lane| Some((lane, self.blocking_call(lane)?)));
        blocking.collect()
    }

    /// The raw syscall of a lane that has waited longest for its result; what needs the same thread
    /// waits behind it.
    pub fn blocking_call(&self, lane: Lane) -> Option<BlockingCall> {
        let calls = self.shared().with(|channel| channel.calls.of_lane(lane));
        calls.iter().find_map(|call| match call.kind() {
            CallKind::Raw { nr } => Some(BlockingCall {
                nr,
                waiting: call.opened.elapsed(),
            }),
            _ => None,
        })
    }
}
