//! Commands that lose their executor.
//!
//! An executor ends its commands when it is told to end. One that a test kills cannot, and nobody would
//! be left who knows of them. So the router notes each open call's process as it starts, and ends its
//! group where the executor is gone. A process counts only if it is the executor's child and leads its
//! group.

use super::link::{Executor, OpenCall};
use crate::roots;
use crate::sys::{file, signal};
use provium_protocol::{CallId, Event, Lane, codec};

impl Executor {
    /// Notes what an event of an open call tells of a process.
    pub(super) fn note_process(&mut self, call: (Lane, CallId), event: &[u8]) {
        let Ok(Event::Started { pid }) = codec::decode::<Event>(event) else {
            return;
        };
        let pid = pid.cast_signed();
        if let Some(call) = self.calls.get_mut(&call)
            && parent_and_group(pid) == Some((self.pid, pid))
        {
            call.process = Some(pid);
        }
    }
}

impl OpenCall {
    /// Ends its command with all of its group, after the executor's end.
    pub(super) fn end_process(&self) {
        if let Some(pid) = self.process {
            let _ = signal::send(pid, libc::SIGKILL, true);
        }
    }
}

/// The fourth and fifth field of `/proc/PID/stat`, behind a name that may hold anything.
fn parent_and_group(pid: i32) -> Option<(i32, i32)> {
    let stat = file::read_at(roots::PROC, &format!("{pid}/stat")).ok()?;
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace().skip(1);
    let mut number = || fields.next()?.parse().ok();
    Some((number()?, number()?))
}
