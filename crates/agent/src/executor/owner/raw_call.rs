//! A raw call with its buffers, from the request to the reply.

use super::layout::Layout;
use crate::executor::call::Call;
use crate::failure::{self, OpResult};
use crate::sys::area::{Area, BUFFERS};
use crate::sys::{Errno, memory, raw};
use provium_protocol::WireError;
use provium_protocol::op::Syscall;
use std::sync::Arc;

const PAGE: usize = 4096;

#[derive(Debug)]
pub(super) struct RawCall {
    pub(super) call: Arc<Call>,
    pub(super) request: Syscall,
    pub(super) layout: Layout,
    /// Where its buffers are; `None`: in the area.
    pub(super) region: Option<u64>,
    /// Its result is a file that was opened.
    pub(super) opens: bool,
}

impl RawCall {
    pub(super) fn new(
        call: Arc<Call>,
        request: Syscall,
        opens: bool,
    ) -> Result<Self, (Arc<Call>, WireError)> {
        match Layout::of(&request) {
            Ok(layout) => Ok(Self {
                call,
                request,
                layout,
                region: None,
                opens,
            }),
            Err(error) => Err((call, error)),
        }
    }

    pub(super) fn executes(&self) -> bool {
        raw::executes(self.request.nr)
    }

    /// Whether its buffers need memory of their own.
    pub(super) fn needs_region(&self) -> bool {
        let Layout { len, align, .. } = self.layout;
        // Without buffers there is nothing to map.
        len > 0 && (self.request.background || len > BUFFERS || align > PAGE)
    }

    /// Copies the buffers to their place, in the area or in the raw process. Returns number and arguments of
    /// the call.
    pub(super) fn place(&mut self, area: Area, pid: Option<i32>) -> Result<[i64; 7], WireError> {
        let base = self.region.unwrap_or(area.buffers());
        match (self.region, pid) {
            (None, _) => {
                area.clear_buffers(self.layout.len.min(BUFFERS));
                self.layout.place(&self.request, base, |offset, bytes| {
                    area.put_buffer(offset, bytes)
                })
            }
            (Some(_), Some(pid)) => self.layout.place(&self.request, base, |offset, bytes| {
                memory::write_of(pid, base + offset as u64, bytes)
            }),
            (Some(_), None) => Err(failure::os("place a buffer", Errno::SRCH)),
        }?;
        for buffer in &mut self.request.buffers {
            buffer.content = Vec::new();
        }
        Ok(self.layout.arguments(&self.request, base))
    }

    /// The reply to a call that has returned `result`.
    pub(super) fn reply(&self, area: Area, pid: Option<i32>, result: i64) -> OpResult {
        if result == -i64::from(libc::EINTR) && self.call.is_cancelled() {
            return Err(failure::cancelled());
        }
        Ok(self.layout.reply(&self.request, result, |start, len| {
            match (self.region, pid) {
                (None, _) => area.get_buffer(start, len),
                // What the call has unmapped reads as zero.
                (Some(region), Some(pid)) => memory::read_of(pid, region + start as u64, len)
                    .unwrap_or_else(|_| vec![0; len]),
                (Some(_), None) => vec![0; len],
            }
        }))
    }
}

/// A raw call in the background, on a thread of its own.
#[derive(Debug)]
pub(super) struct BackgroundCall {
    pub(super) raw: RawCall,
    pub(super) tid: i32,
}
