//! A fault: its effect, and the commands that it acts on.

use crate::command::{Command, CommandKind};
use crate::geometry::SECTOR;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a fault does to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultMode {
    /// Reads fail with `EIO`.
    EioRead,
    /// Writes, of zeroes too, and discards fail with `EIO`.
    EioWrite,
    /// Both of these.
    Eio,
    /// Any command takes longer: 50 ms, if the rule does not say how long.
    Slow,
    /// Any command takes longer, by the delay of the rule.
    Delay,
    /// A write of more than one sector writes only its first sectors, and succeeds.
    TornWrite,
    /// A flush succeeds and makes nothing durable. A write with FUA is not durable either.
    DropFlush,
    /// Some bytes of what is read, or of what is stored, are wrong.
    Corrupt,
    /// Writes, of zeroes too, fail with `ENOSPC`.
    Enospc,
    /// The command of this number from now (1 is the next one) and all later ones fail with `EIO`, flushes too.
    FailAfter(u64),
}

/// Sectors of 512 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectorRange {
    /// The first one.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FaultRule {
    /// What it does.
    pub mode: FaultMode,
    /// Only commands that touch these sectors; flushes touch none.
    pub sectors: Option<SectorRange>,
    /// How likely it is for each command that it is for, 0 to 1. Always, if it is absent.
    pub probability: Option<f64>,
    /// The most commands that it acts on.
    pub count: Option<u64>,
    /// The number of matching commands that it skips at first.
    pub after: u64,
    /// How long a command waits before the rest happens.
    pub delay: Option<Duration>,
}

impl FaultRule {
    /// A rule for all commands that the mode is for.
    pub fn new(mode: FaultMode) -> Self {
        Self {
            mode,
            sectors: None,
            probability: None,
            count: None,
            after: 0,
            delay: None,
        }
    }

    /// Whether it is for a command.
    pub(crate) fn is_for(&self, command: &Command) -> bool {
        use CommandKind::{Discard, Flush, Read, Write, WriteZeroes};
        let kind = command.kind;
        let by_kind = match self.mode {
            FaultMode::EioRead => kind == Read,
            FaultMode::EioWrite => matches!(kind, Write | WriteZeroes | Discard),
            FaultMode::Eio => kind != Flush,
            FaultMode::Slow | FaultMode::Delay | FaultMode::FailAfter(_) => true,
            FaultMode::TornWrite => kind == Write && command.length > SECTOR,
            FaultMode::DropFlush => kind == Flush || command.fua,
            FaultMode::Corrupt => matches!(kind, Read | Write),
            FaultMode::Enospc => matches!(kind, Write | WriteZeroes),
        };
        by_kind && self.bytes_in(command).is_some()
    }

    /// The bytes of a command that are in the sectors of the rule, from the command's offset. None if it touches none.
    pub(crate) fn bytes_in(&self, command: &Command) -> Option<(u64, u64)> {
        let Some(sectors) = self.sectors else {
            return Some((0, command.length));
        };
        let first = sectors.first.saturating_mul(SECTOR);
        let end = sectors.last.saturating_add(1).saturating_mul(SECTOR);
        let start = first.max(command.offset);
        let end = end.min(command.offset + command.length);
        (command.kind != CommandKind::Flush && start < end)
            .then(|| (start - command.offset, end - command.offset))
    }

    /// How long it delays a command.
    pub fn delay(&self) -> Duration {
        match (self.delay, self.mode) {
            (Some(delay), _) => delay,
            (None, FaultMode::Slow) => Duration::from_millis(50),
            (None, _) => Duration::ZERO,
        }
    }
}
