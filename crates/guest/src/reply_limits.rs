//! What a call may carry, by its operation. A longer reply is a violation and is not waited for; input
//! to an operation without an input stream is not sent.

use provium_protocol::Op;
use provium_protocol::frame::MAX_MESSAGE;
use serde::{Deserialize, Serialize};

/// Enough for every reply that carries no bulk, errors with their text among them.
const PLAIN: ReplyLimits = ReplyLimits {
    bytes: 64 * 1024,
    values: 64,
    input: false,
};
/// A folder of more than a million names.
const LISTING: ReplyLimits = ReplyLimits {
    bytes: 32 * 1024 * 1024,
    values: 8_000_000,
    input: false,
};

/// Processes of one name.
const PROCESSES: usize = 1024;

/// What a call may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplyLimits {
    /// Encoded length of the reply.
    pub(crate) bytes: usize,
    /// Elements of all its lists, see [`decode_bounded`](provium_protocol::codec::decode_bounded).
    pub(crate) values: usize,
    /// Whether it has an input stream.
    pub(crate) input: bool,
}

impl ReplyLimits {
    /// For a reply without bulk.
    pub(crate) fn plain() -> Self {
        PLAIN
    }

    /// For the reply to `op`.
    pub(crate) fn of(op: &Op) -> Self {
        let (bytes, values) = match op {
            Op::Batch { ops } => ops.iter().fold((0usize, 0usize), |(bytes, values), op| {
                let entry = Self::of(op);
                (
                    bytes.saturating_add(entry.bytes),
                    values.saturating_add(entry.values),
                )
            }),
            Op::ListDir { .. } => (LISTING.bytes, LISTING.values),
            Op::ReadFile { inline: true, .. } => (MAX_MESSAGE, 0),
            Op::WaitFor { .. } => (0, PROCESSES),
            Op::ReadFd { max, .. } => (*max as usize, 0),
            Op::ReadMemory { len, .. } => (size(*len), 0),
            Op::Exec(exec) => (size(2 * u64::from(exec.collect.unwrap_or(0))), 0),
            Op::Syscall(call) => {
                let returned = call.buffers.iter().filter(|buffer| buffer.returned);
                let bytes =
                    returned.fold(0usize, |sum, buffer| sum.saturating_add(size(buffer.len)));
                // Each buffer has a header of at most five bytes.
                (
                    bytes.saturating_add(8 * call.buffers.len()),
                    call.buffers.len(),
                )
            }
            _ => (0, 0),
        };
        Self {
            bytes: bytes.saturating_add(PLAIN.bytes).min(MAX_MESSAGE),
            values: values.saturating_add(PLAIN.values),
            input: op.takes_input(),
        }
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_bounded_by_what_was_asked() {
        assert_eq!(ReplyLimits::of(&Op::ClockGet), PLAIN);
        let read = Op::ReadFd {
            fd: 3.into(),
            max: 1 << 20,
        };
        assert_eq!(ReplyLimits::of(&read).bytes, (1 << 20) + PLAIN.bytes);
        let ops = vec![read.clone(), read];
        let batch = Op::Batch { ops };
        assert_eq!(ReplyLimits::of(&batch).bytes, (2 << 20) + 3 * PLAIN.bytes);
        let all = Op::ReadMemory {
            address: 0,
            len: u64::MAX,
        };
        assert_eq!(ReplyLimits::of(&all).bytes, MAX_MESSAGE);
    }
}
