//! A batch: ops one after the other, each sent to its lane when those before it have come back.
//!
//! Neighbours that the same main thread does one after the other anyway are sent ahead, so that a
//! batch of thousands does not cost a thousand round trips inside the guest.

use crate::failure::{self, OpResult};
use provium_protocol::op::Stdin;
use provium_protocol::{CallId, ErrorKind, Lane, Op, Reply, WireError};
use std::collections::VecDeque;

/// How many entries are sent ahead.
const AHEAD: usize = 32;
/// What the results may take up, so that the reply stays within a message.
const LIMIT: usize = 96 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Batch {
    commands: Lane,
    raw: Lane,
    left: VecDeque<Op>,
    results: Vec<OpResult>,
    /// Sent and not answered; they are answered in this order.
    open: VecDeque<Sent>,
    size: usize,
    cancelled: bool,
}

#[derive(Debug)]
struct Sent {
    id: CallId,
    lane: Lane,
    op: Op,
}

impl Batch {
    pub(super) fn new(commands: Lane, raw: Lane, ops: Vec<Op>) -> Self {
        let results = Vec::with_capacity(ops.len());
        let left = ops.into();
        Self {
            commands,
            raw,
            left,
            results,
            open: VecDeque::new(),
            size: 0,
            cancelled: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.open.is_empty() && (self.left.is_empty() || self.cancelled)
    }

    pub(super) fn take_result(&mut self) -> OpResult {
        if self.cancelled {
            return Err(failure::cancelled());
        }
        Ok(Reply::Batch(std::mem::take(&mut self.results)))
    }

    /// The next op to send, if one may be sent now. Those that cannot be done are answered here.
    pub(super) fn next(&mut self) -> Option<(Lane, Op)> {
        while !self.cancelled {
            let op = self.left.front()?;
            let lane = if matches!(op, Op::Syscall(_)) {
                self.raw
            } else {
                self.commands
            };
            if let Some(last) = self.open.back() {
                let may_follow = is_ordered(&last.op) && last.lane == lane && is_ordered(op);
                if !may_follow || self.open.len() >= AHEAD {
                    return None;
                }
            }
            let flaw = flaw(op).or_else(|| {
                (self.size > LIMIT).then(|| "the batch's results are too large".to_owned())
            });
            match flaw {
                // Results are in order, so those before it come first.
                Some(_) if !self.open.is_empty() => return None,
                Some(flaw) => {
                    self.left.pop_front();
                    self.results.push(Err(failure::invalid(flaw)));
                }
                None => return self.left.pop_front().map(|op| (lane, op)),
            }
        }
        None
    }

    /// An op was sent, or could not be.
    pub(super) fn sent(&mut self, lane: Lane, op: Op, sent: Result<CallId, WireError>) {
        match sent {
            Ok(id) => self.open.push_back(Sent { id, lane, op }),
            Err(error) => self.results.push(Err(error)),
        }
    }

    /// A lane answered. What was sent ahead to a lane that died had not begun there: it is sent
    /// again, and what the dead lane says of it does not count.
    pub(super) fn answered(&mut self, id: CallId, result: OpResult, size: usize) {
        if self.open.front().is_none_or(|sent| sent.id != id) {
            return;
        }
        self.open.pop_front();
        if result
            .as_ref()
            .is_err_and(|error| error.kind == ErrorKind::LaneDied)
        {
            for sent in self.open.drain(..).rev() {
                self.left.push_front(sent.op);
            }
        }
        self.size += size;
        self.results.push(result);
    }

    /// Stops; gives what is to be cancelled.
    pub(super) fn cancel(&mut self) -> (Lane, Vec<CallId>) {
        self.cancelled = true;
        let lane = self.open.front().map_or(self.commands, |sent| sent.lane);
        (lane, self.open.iter().map(|sent| sent.id).collect())
    }
}

/// Whether the lane's main thread does it to its end before it begins the next.
fn is_ordered(op: &Op) -> bool {
    match op {
        Op::Syscall(syscall) => !syscall.background,
        Op::Stat { .. }
        | Op::ListDir { .. }
        | Op::MakeDir { .. }
        | Op::Unlink { .. }
        | Op::Rename { .. }
        | Op::Chmod { .. }
        | Op::Symlink { .. }
        | Op::ReadLink { .. } => true,
        _ => false,
    }
}

/// Why an op has no place in a batch.
fn flaw(op: &Op) -> Option<String> {
    let bad = match op {
        Op::Exec(exec) => exec.stdin == Stdin::Channel || exec.collect.is_none() || exec.background,
        Op::ReadFile { inline, .. } => !inline,
        Op::WriteFile { content, .. } => content.is_none(),
        Op::SpawnWorker(_)
        | Op::RetireWorker { .. }
        | Op::Batch { .. }
        | Op::PowerOff
        | Op::Stats
        | Op::Quiesce
        | Op::Renew(_)
        | Op::StreamFd { .. }
        | Op::WriteFd { .. }
        | Op::TailFile { .. } => true,
        _ => false,
    };
    bad.then(|| "an op of a batch can use no channels and start no workers".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(path: &[u8]) -> Op {
        Op::Stat {
            path: path.to_vec(),
        }
    }

    #[test]
    fn a_command_waits_for_what_is_before_it() {
        let read = Op::ReadFile {
            path: b"x".to_vec(),
            inline: true,
        };
        let mut batch = Batch::new(
            Lane::COMMANDS,
            Lane::RAW,
            vec![stat(b"a"), stat(b"b"), read, stat(b"c")],
        );
        for id in 0..2 {
            let (lane, op) = batch.next().unwrap();
            batch.sent(lane, op, Ok(CallId(id)));
        }
        assert!(batch.next().is_none());
        batch.answered(CallId(0), Ok(Reply::Done), 1);
        assert!(batch.next().is_none());
        batch.answered(CallId(1), Ok(Reply::Done), 1);
        let (lane, op) = batch.next().unwrap();
        batch.sent(lane, op, Ok(CallId(2)));
        assert!(
            batch.next().is_none(),
            "nothing overtakes a file that may wait"
        );
        batch.answered(CallId(2), Ok(Reply::Count(3)), 1);
        let (lane, op) = batch.next().unwrap();
        batch.sent(lane, op, Err(failure::no_such_lane(lane)));
        assert!(batch.is_done());
        let Ok(Reply::Batch(results)) = batch.take_result() else {
            panic!("no results")
        };
        assert_eq!(results.len(), 4);
        assert_eq!(results[2], Ok(Reply::Count(3)));
    }

    #[test]
    fn what_was_sent_ahead_to_a_dying_lane_is_sent_again() {
        let mut batch = Batch::new(Lane::COMMANDS, Lane::RAW, vec![stat(b"a"), stat(b"b")]);
        for id in 0..2 {
            let (lane, op) = batch.next().unwrap();
            batch.sent(lane, op, Ok(CallId(id)));
        }
        let died = || Err(failure::lane_died("was killed"));
        batch.answered(CallId(0), died(), 1);
        batch.answered(CallId(1), died(), 1);
        let (lane, op) = batch.next().unwrap();
        assert_eq!(op, stat(b"b"));
        batch.sent(lane, op, Ok(CallId(2)));
        batch.answered(CallId(2), Ok(Reply::Done), 1);
        let Ok(Reply::Batch(results)) = batch.take_result() else {
            panic!("no results")
        };
        assert!(results[0].is_err() && results[1].is_ok());
    }

    #[test]
    fn what_needs_channels_is_answered_in_its_place() {
        let streaming = Op::ReadFile {
            path: b"x".to_vec(),
            inline: false,
        };
        let mut batch = Batch::new(Lane::COMMANDS, Lane::RAW, vec![stat(b"a"), streaming]);
        let (lane, op) = batch.next().unwrap();
        batch.sent(lane, op, Ok(CallId(0)));
        assert!(batch.next().is_none());
        batch.answered(CallId(0), Ok(Reply::Done), 1);
        assert!(batch.next().is_none());
        assert!(batch.is_done());
        let Ok(Reply::Batch(results)) = batch.take_result() else {
            panic!("no results")
        };
        assert!(results[0].is_ok() && results[1].is_err());
    }
}
