//! Power cuts.

use crate::disk::Disk;
use crate::error::DiskError;
use crate::geometry::Span;
use crate::overlay::Runs;
use crate::record::{LostWrite, Record};
use crate::state::{State, VolatileWrites};
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use std::io;

/// How the power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerCut {
    /// What happens to writes that are not durable.
    pub keep: Keep,
    /// Decides what happens by chance.
    pub seed: u64,
}

/// What a power cut keeps of the writes that are not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// None of them.
    #[default]
    None,
    /// Each with a probability of one half; a drive may write its cache in any order.
    Random,
    /// All but the last one, of which the first sectors are kept. A write of one sector is lost: sectors do not tear.
    Torn,
}

/// What a power cut did to the writes that were not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PowerLoss {
    /// Writes and discards that were lost.
    pub dropped: u64,
    /// Those that were kept whole.
    pub kept: u64,
    /// Those of which the first sectors were kept.
    pub torn: u64,
}

impl Disk {
    /// Cuts the power: writes that are not durable are lost, or what the cut keeps of them is there. Afterwards the
    /// disk is off: each command of the guest fails with `EIO`. A disk that is off loses nothing more.
    ///
    /// # Errors
    /// The host cannot write what the cut keeps; that is lost then.
    pub fn power_cut(&self, cut: PowerCut) -> Result<PowerLoss, DiskError> {
        let mut state = self.0.state.write();
        if !state.is_on {
            return Ok(PowerLoss::default());
        }
        state.power_cut(cut).map_err(DiskError::io("write"))
    }

    /// Turns the disk on after a power cut.
    pub fn power_on(&self) {
        self.0.state.write().is_on = true;
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.0.state.read().is_on
    }
}

/// What a power cut does to one record.
enum Fate {
    Kept,
    Torn(u64),
    Dropped,
}

impl State {
    fn power_cut(&mut self, cut: PowerCut) -> io::Result<PowerLoss> {
        let at = self.first_unflushed();
        let tail = self.records.split_off(at);
        for record in tail.iter().rev() {
            self.held -= record.held;
            self.layers.map.set(record.span.first_block(), &record.old);
        }
        self.unflushed = VolatileWrites::default();
        self.flushed = self.last;
        let undone: Vec<_> = tail.iter().map(|record| record.span).collect();
        let last = tail.iter().rposition(|record| !record.is_durable);
        let mut random = Rng::with_seed(cut.seed);
        let mut loss = PowerLoss::default();
        let mut lost = Vec::new();
        // Freed at the end: a slot that is taken again meanwhile would look like the block that was there before.
        let mut garbage = Vec::new();
        let mut failure = Ok(());
        for (number, record) in tail.into_iter().enumerate() {
            let fate = if record.is_durable {
                Fate::Kept
            } else {
                cut.fate(&record, Some(number) == last, &mut random)
            };
            let is_durable = record.is_durable;
            let gone = fate.lost_of(&record);
            let whole = LostWrite::of(&record, record.span);
            match self.apply_again(record, &fate, &mut garbage) {
                Ok(()) => {
                    if !is_durable {
                        loss.count(&fate);
                    }
                    lost.extend(gone);
                }
                Err(error) => {
                    loss.dropped += 1;
                    lost.push(whole);
                    failure = Err(error);
                }
            }
        }
        for runs in garbage {
            self.layers.release(&runs, false);
        }
        if std::mem::take(&mut self.is_image_ahead) {
            // What the host has no space for now did not reach the image before either.
            for span in undone {
                let _ = self.write_back_spans([span]);
            }
        }
        let written_back = self.write_back(at);
        if self.log.is_some() {
            self.last += 1;
            self.push(Record::power_cut(self.last, lost));
            self.flushed = self.last;
        }
        self.forget_records();
        self.is_on = false;
        written_back?;
        self.clear_written_back();
        failure.map(|()| loss)
    }

    /// Applies a record that was undone, as far as its fate says.
    fn apply_again(
        &mut self,
        mut record: Record,
        fate: &Fate,
        garbage: &mut Vec<Runs>,
    ) -> io::Result<()> {
        let kept = match fate {
            Fate::Kept => record.span.count,
            Fate::Torn(sectors) => *sectors,
            Fate::Dropped => 0,
        };
        let is_torn = kept < record.span.count;
        if kept == 0 && is_torn {
            garbage.push(record.new);
            return Ok(());
        }
        record.span = Span {
            count: kept,
            ..record.span
        };
        let (new, lost) = record.new.split(record.span.blocks());
        record.new = new;
        garbage.push(lost);
        if let Err(error) = self.complete_edges(&mut record, is_torn, garbage) {
            garbage.push(record.new);
            return Err(error);
        }
        let first = record.span.first_block();
        record.old = self.layers.map.runs(first, record.span.blocks());
        self.layers.map.set(first, &record.new);
        self.push(record);
        Ok(())
    }

    /// Gives the edges of a record the rest of what is below them now.
    fn complete_edges(
        &mut self,
        record: &mut Record,
        always: bool,
        garbage: &mut Vec<Runs>,
    ) -> io::Result<()> {
        let first = record.span.first_block();
        for block in record.span.edges(self.layers.sectors) {
            let below = self.layers.map.get(block);
            if !always && record.old.get(block - first) == Some(below) {
                continue;
            }
            let Some(above) = record.new.get(block - first) else {
                continue;
            };
            let address = self.layers.compose(block, below, above, record.span)?;
            record.new = record.new.with(block - first, address);
            garbage.push(Runs::one(above, 1));
        }
        Ok(())
    }
}

impl Fate {
    /// What is lost of the record.
    fn lost_of(&self, record: &Record) -> Option<LostWrite> {
        let Span { first, count } = record.span;
        let kept = match self {
            Self::Kept => return None,
            Self::Torn(sectors) => *sectors,
            Self::Dropped => 0,
        };
        let span = Span {
            first: first + kept,
            count: count - kept,
        };
        Some(LostWrite::of(record, span))
    }
}

impl LostWrite {
    fn of(record: &Record, span: Span) -> Self {
        Self {
            sequence: record.sequence,
            kind: record.kind,
            span,
        }
    }
}

impl PowerCut {
    fn fate(&self, record: &Record, is_last: bool, random: &mut Rng) -> Fate {
        match self.keep {
            Keep::None => Fate::Dropped,
            Keep::Random if random.bool() => Fate::Kept,
            Keep::Random => Fate::Dropped,
            Keep::Torn if !is_last => Fate::Kept,
            Keep::Torn if record.span.count > 1 => Fate::Torn(random.u64(1..record.span.count)),
            Keep::Torn => Fate::Dropped,
        }
    }
}

impl PowerLoss {
    fn count(&mut self, fate: &Fate) {
        match fate {
            Fate::Kept => self.kept += 1,
            Fate::Torn(_) => self.torn += 1,
            Fate::Dropped => self.dropped += 1,
        }
    }
}
