//! The rules of a disk.

use super::rule::{FaultMode, FaultRule};
use crate::command::{Admission, Command, Effect};
use crate::geometry::SECTOR;
use fastrand::Rng;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The number of a rule; later rules have higher ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FaultId(pub u64);

/// The rules of a disk, and what they have done.
#[derive(Debug, Clone)]
pub(crate) struct FaultTable {
    rules: Vec<Entry>,
    last: u64,
    seed: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    id: FaultId,
    rule: FaultRule,
    /// Commands that it was for.
    seen: u64,
    /// Commands that it acted on.
    hits: u64,
    /// Of its own, so that other rules do not change what it does.
    random: Rng,
}

/// A rule in a saved disk.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedFault {
    id: FaultId,
    rule: FaultRule,
    seen: u64,
    hits: u64,
}

impl FaultTable {
    /// Without rules.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rules: Vec::new(),
            last: 0,
            seed,
        }
    }

    /// Adds a rule after those that exist.
    pub(crate) fn add(&mut self, rule: FaultRule) -> FaultId {
        self.last += 1;
        let id = FaultId(self.last);
        self.insert(SavedFault {
            id,
            rule,
            seen: 0,
            hits: 0,
        });
        id
    }

    fn insert(&mut self, saved: SavedFault) {
        // The number of hits is part of the seed, so that a restored rule does not repeat its first choices.
        let mut mixer = Rng::with_seed(self.seed ^ saved.id.0.rotate_left(32) ^ saved.seen);
        self.rules.push(Entry {
            id: saved.id,
            rule: saved.rule,
            seen: saved.seen,
            hits: saved.hits,
            random: mixer.fork(),
        });
    }

    /// Removes a rule. Whether it existed.
    pub(crate) fn remove(&mut self, id: FaultId) -> bool {
        let before = self.rules.len();
        self.rules.retain(|entry| entry.id != id);
        self.rules.len() < before
    }

    /// Removes all rules.
    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    /// Whether it has no rules.
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules, each with how many commands it acted on.
    pub(crate) fn list(&self) -> Vec<(FaultId, FaultRule, u64)> {
        self.rules
            .iter()
            .map(|entry| (entry.id, entry.rule, entry.hits))
            .collect()
    }

    /// What a saved disk has of it.
    pub(crate) fn save(&self) -> Vec<SavedFault> {
        self.rules
            .iter()
            .map(|entry| SavedFault {
                id: entry.id,
                rule: entry.rule,
                seen: entry.seen,
                hits: entry.hits,
            })
            .collect()
    }

    /// What was saved.
    pub(crate) fn restore(seed: u64, saved: &[SavedFault]) -> Self {
        let mut table = Self::new(seed);
        for fault in saved {
            table.last = table.last.max(fault.id.0);
            table.insert(*fault);
        }
        table
    }

    /// Decides about a command.
    pub(crate) fn admit(&mut self, command: Command) -> Admission {
        let mut admission = Admission::normal(command);
        for entry in &mut self.rules {
            if !entry.acts_on(&command) {
                continue;
            }
            let effect = entry.effect(&command);
            if effect != Effect::Normal && admission.effect != Effect::Normal {
                // An earlier rule has decided: this one did nothing, and keeps its count.
                continue;
            }
            entry.hits += 1;
            admission.delay += entry.rule.delay();
            if effect != Effect::Normal {
                admission.effect = effect;
            }
        }
        admission
    }
}

impl Entry {
    /// Whether it acts on a command, which it counts if it is for it.
    fn acts_on(&mut self, command: &Command) -> bool {
        if !self.rule.is_for(command) {
            return false;
        }
        self.seen += 1;
        let left_alone = match self.rule.mode {
            FaultMode::FailAfter(number) => self.rule.after + number.saturating_sub(1),
            _ => self.rule.after,
        };
        if self.seen <= left_alone || self.rule.count.is_some_and(|count| self.hits >= count) {
            return false;
        }
        self.rule
            .probability
            .is_none_or(|probability| self.random.f64() < probability)
    }

    fn effect(&mut self, command: &Command) -> Effect {
        match self.rule.mode {
            FaultMode::EioRead | FaultMode::EioWrite | FaultMode::Eio | FaultMode::FailAfter(_) => {
                Effect::Fail(Errno::IO)
            }
            FaultMode::Enospc => Effect::Fail(Errno::NOSPC),
            FaultMode::Slow | FaultMode::Delay => Effect::Normal,
            FaultMode::TornWrite => Effect::Tear {
                sectors: self.random.u64(1..(command.length / SECTOR).max(2)),
            },
            FaultMode::DropFlush => Effect::DropFlush,
            FaultMode::Corrupt => {
                let (start, end) = self.rule.bytes_in(command).unwrap_or((0, command.length));
                Effect::Corrupt {
                    seed: self.random.u64(..),
                    start,
                    end,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::SectorRange;
    use super::*;
    use crate::command::CommandKind::{self, Discard, Flush, Read, Write, WriteZeroes};
    use std::time::Duration;

    fn command(kind: CommandKind, first: u64, count: u64) -> Command {
        Command {
            kind,
            offset: first * SECTOR,
            length: count * SECTOR,
            fua: false,
        }
    }

    const EIO: Effect = Effect::Fail(Errno::IO);

    #[test]
    fn each_mode_is_for_its_commands() {
        let modes = [
            (FaultMode::EioRead, "r"),
            (FaultMode::EioWrite, "wzd"),
            (FaultMode::Eio, "rwzd"),
            (FaultMode::Slow, "rwzdf"),
            (FaultMode::TornWrite, "w"),
            (FaultMode::DropFlush, "f"),
            (FaultMode::Corrupt, "rw"),
            (FaultMode::Enospc, "wz"),
            (FaultMode::FailAfter(1), "rwzdf"),
        ];
        for (mode, expected) in modes {
            let mut table = FaultTable::new(1);
            table.add(FaultRule::new(mode));
            let mut hit = String::new();
            for (kind, letter) in [
                (Read, 'r'),
                (Write, 'w'),
                (WriteZeroes, 'z'),
                (Discard, 'd'),
                (Flush, 'f'),
            ] {
                let sent = command(kind, 0, if kind == Flush { 0 } else { 8 });
                if table.admit(sent) != Admission::normal(sent) {
                    hit.push(letter);
                }
            }
            assert_eq!(hit, expected, "{mode:?}");
        }
    }

    #[test]
    fn sectors_limit_a_rule_to_commands_that_touch_them() {
        let mut table = FaultTable::new(1);
        table.add(FaultRule {
            sectors: Some(SectorRange {
                first: 10,
                last: 11,
            }),
            ..FaultRule::new(FaultMode::FailAfter(1))
        });
        let mut effect = |kind, first, count| table.admit(command(kind, first, count)).effect;
        assert_eq!(effect(Read, 8, 2), Effect::Normal);
        assert_eq!(effect(Read, 8, 3), EIO);
        assert_eq!(effect(Write, 11, 1), EIO);
        assert_eq!(effect(Write, 12, 1), Effect::Normal);
        assert_eq!(effect(Flush, 0, 0), Effect::Normal);
    }

    #[test]
    fn after_and_count_choose_commands() {
        let mut table = FaultTable::new(1);
        table.add(FaultRule {
            after: 2,
            count: Some(2),
            ..FaultRule::new(FaultMode::EioWrite)
        });
        let mut failed = Vec::new();
        for number in 1..=6 {
            table.admit(command(Read, 0, 1));
            if table.admit(command(Write, 0, 1)).effect == EIO {
                failed.push(number);
            }
        }
        assert_eq!(failed, [3, 4]);
        assert_eq!(table.list()[0].2, 2);
    }

    #[test]
    fn fail_after_fails_the_command_of_that_number_and_all_later_ones() {
        let mut table = FaultTable::new(1);
        table.add(FaultRule::new(FaultMode::FailAfter(3)));
        let effects: Vec<_> = [Read, Write, Flush, Read]
            .map(|kind| table.admit(command(kind, 0, 1)).effect == EIO)
            .into();
        assert_eq!(effects, [false, false, true, true]);
    }

    #[test]
    fn a_seed_decides_which_commands_a_probable_fault_meets() {
        let hits = |seed| {
            let mut table = FaultTable::new(seed);
            table.add(FaultRule {
                probability: Some(0.25),
                ..FaultRule::new(FaultMode::EioRead)
            });
            let hits: Vec<bool> = (0..4000)
                .map(|_| table.admit(command(Read, 0, 1)).effect == EIO)
                .collect();
            assert_eq!(
                table.list()[0].2,
                hits.iter().filter(|&&hit| hit).count() as u64
            );
            hits
        };
        let first = hits(7);
        assert_eq!(first, hits(7));
        assert_ne!(first, hits(8));
        let count = first.iter().filter(|&&hit| hit).count();
        assert!((900..1100).contains(&count), "{count} of 4000");
    }

    #[test]
    fn delays_add_up_and_the_first_effect_wins() {
        let mut table = FaultTable::new(1);
        table.add(FaultRule::new(FaultMode::Slow));
        table.add(FaultRule {
            delay: Some(Duration::from_millis(7)),
            ..FaultRule::new(FaultMode::Delay)
        });
        table.add(FaultRule::new(FaultMode::Enospc));
        let late = table.add(FaultRule::new(FaultMode::EioWrite));
        let admission = table.admit(command(Write, 0, 1));
        assert_eq!(admission.delay, Duration::from_millis(57));
        assert_eq!(admission.effect, Effect::Fail(Errno::NOSPC));
        let hits: Vec<_> = table.list().iter().map(|(_, _, hits)| *hits).collect();
        assert_eq!(hits, [1, 1, 1, 0]);
        assert!(table.remove(late));
        assert!(!table.remove(late));
        table.clear();
        assert!(table.is_empty());
    }

    #[test]
    fn a_torn_write_loses_at_least_one_sector_and_keeps_one() {
        let mut table = FaultTable::new(3);
        table.add(FaultRule::new(FaultMode::TornWrite));
        let mut seen = [false; 8];
        for _ in 0..200 {
            match table.admit(command(Write, 0, 8)).effect {
                Effect::Tear { sectors } => seen[sectors as usize] = true,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, [false, true, true, true, true, true, true, true]);
        assert_eq!(table.admit(command(Write, 0, 1)).effect, Effect::Normal);
    }

    #[test]
    fn a_restored_rule_continues() {
        let mut table = FaultTable::new(3);
        table.add(FaultRule {
            count: Some(2),
            ..FaultRule::new(FaultMode::EioRead)
        });
        assert_eq!(table.admit(command(Read, 0, 1)).effect, EIO);
        let mut restored = FaultTable::restore(9, &table.save());
        assert_eq!(restored.admit(command(Read, 0, 1)).effect, EIO);
        assert_eq!(restored.admit(command(Read, 0, 1)).effect, Effect::Normal);
        assert_eq!(restored.add(FaultRule::new(FaultMode::Slow)), FaultId(2));
    }
}
