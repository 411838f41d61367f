//! The enumeration of crash states.

use super::image::{CrashImage, ImageBuilder};
use crate::disk::Disk;
use crate::error::DiskError;
use crate::faults::FaultTable;
use crate::layers::Layers;
use crate::log::LogMark;
use crate::record::{Record, RecordKind};
use crate::state::State;
use fastrand::Rng;
use std::collections::{HashSet, VecDeque};
use std::io;

/// The most writes between two flushes of which all subsets are enumerated.
const EXHAUSTIVE: usize = 12;

/// The most lost writes that are named one by one.
const MOST_NAMED: usize = 6;

/// Which crash states are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashOptions {
    /// Crashes after this mark; from the start of the log if it is absent. Writes before it that no flush had made
    /// durable may still be lost.
    pub since: Option<LogMark>,
    /// The most states.
    pub most: usize,
    /// Chooses subsets and where writes tear.
    pub seed: u64,
}

/// A content that a loss of power could leave.
#[derive(Debug)]
pub struct CrashState {
    /// When the crash was, and what it lost.
    pub description: String,
    /// Flushes that had completed since the start.
    pub flushes: u64,
    /// The numbers of the writes since the start that are there, those before the last flush included. One that is torn
    /// is among them.
    pub applied: Vec<u64>,
    /// The disk, with a copy-on-write overlay of its own and without faults.
    pub disk: Disk,
}

impl Disk {
    /// The distinct states that a crash could leave; see the documentation of the module `crash`. The disk can be used
    /// meanwhile; what it writes is not in the states.
    ///
    /// # Errors
    /// The log is not recorded, or does not have all since the mark; the host cannot write the files.
    pub fn crash_states(&self, options: CrashOptions) -> Result<CrashStates, DiskError> {
        if self.is_read_only() {
            return Err(DiskError::NeverWritten);
        }
        let mut state = self.0.state.write();
        let log = state.log.ok_or(DiskError::NoLog)?;
        if let Some(mark) = options.since {
            state.check_mark(mark)?;
            if log.lacks_after(mark.0) {
                return Err(DiskError::MarkLost { mark: mark.0 });
            }
        }
        let scratch = state.layers.scratch.clone();
        let copy = state.copy(&scratch).map_err(DiskError::io("copy"))?;
        let mut layers = copy.layers;
        let records: Vec<_> = state.records.iter().cloned().collect();
        drop(state);
        for record in records.iter().rev() {
            layers.map.set(record.span.first_block(), &record.old);
        }
        let since = options.since.map_or(log.start, |mark| mark.0);
        let start = records.partition_point(|record| record.sequence <= since);
        Ok(CrashStates::new(
            layers,
            records,
            start,
            options,
            self.0.seed,
        ))
    }
}

/// The crash states of a log; see [`Disk::crash_states`].
#[derive(Debug)]
pub struct CrashStates {
    builder: ImageBuilder,
    records: Vec<Record>,
    /// The record at which crashes begin.
    start: usize,
    start_image: CrashImage,
    left: usize,
    seed: u64,
    disk_seed: u64,
    seen: HashSet<u128>,
    phase: Phase,
    /// The content after the records that the phase has passed.
    image: CrashImage,
    points: Vec<CrashPoint>,
}

#[derive(Debug)]
enum Phase {
    /// This number of records is applied.
    Prefixes(usize),
    /// One is lost: the point, and the place in its list of volatile writes.
    OneLost(usize, usize),
    Subsets(VecDeque<Subsets>),
    /// This record is torn.
    Torn(usize),
    Done,
}

/// A crash just before what makes the writes since the last flush durable.
#[derive(Debug)]
struct CrashPoint {
    /// What the flush before it made durable.
    image: CrashImage,
    /// The records after that.
    first: usize,
    end: usize,
    /// Those of them that could be lost.
    volatile: Vec<usize>,
}

/// Subsets of the volatile writes of a point.
#[derive(Debug)]
struct Subsets {
    point: usize,
    tried: u64,
    tries: u64,
    random: Option<Rng>,
}

impl CrashStates {
    fn new(
        layers: Layers,
        records: Vec<Record>,
        start: usize,
        options: CrashOptions,
        disk_seed: u64,
    ) -> Self {
        let image = CrashImage {
            map: layers.map.clone(),
            hash: 0,
        };
        Self {
            builder: ImageBuilder::new(layers),
            records,
            start,
            start_image: image.clone(),
            left: options.most,
            seed: options.seed,
            disk_seed,
            seen: HashSet::new(),
            phase: Phase::Prefixes(0),
            image,
            points: Vec::new(),
        }
    }

    /// How many commands the log has since the start.
    pub fn commands(&self) -> usize {
        self.records.len() - self.start
    }

    fn advance(&mut self) -> io::Result<Option<CrashState>> {
        loop {
            let found = match self.phase {
                Phase::Prefixes(applied) => self.prefix(applied)?,
                Phase::OneLost(point, which) => self.one_lost(point, which)?,
                Phase::Subsets(_) => self.subset()?,
                Phase::Torn(record) => self.torn(record)?,
                Phase::Done => return Ok(None),
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    fn prefix(&mut self, applied: usize) -> io::Result<Option<CrashState>> {
        if applied > self.records.len() {
            self.phase = Phase::OneLost(0, 0);
            return Ok(None);
        }
        if let Some(last) = applied.checked_sub(1) {
            let record = &self.records[last];
            self.builder
                .apply(&mut self.image, record, record.span.count)?;
        }
        let ends_point = self.records.get(applied).is_none_or(|next| next.is_durable);
        if ends_point && applied >= self.start {
            self.add_point(applied)?;
        }
        self.phase = Phase::Prefixes(applied + 1);
        if applied < self.start {
            return Ok(None);
        }
        let image = self.image.clone();
        let after = self.after(applied);
        let all: Vec<_> = (self.start..applied).collect();
        Ok(self.emit(image, applied, &all, |flushes| {
            format!("{after} and {flushes}")
        }))
    }

    fn add_point(&mut self, end: usize) -> io::Result<()> {
        let is_boundary =
            |record: &Record| matches!(record.kind, RecordKind::Flush | RecordKind::PowerCut);
        let first = (self.records[..end].iter())
            .rposition(is_boundary)
            .map_or(0, |at| at + 1);
        let volatile: Vec<_> = (first..end)
            .filter(|&at| !self.records[at].is_durable)
            .collect();
        if volatile.is_empty() {
            return Ok(());
        }
        let image = match self.points.last() {
            Some(point) if point.first == first => point.image.clone(),
            before => {
                let (mut image, from) = match before {
                    Some(point) => (point.image.clone(), point.first),
                    None => (self.start_image.clone(), 0),
                };
                for at in from..first {
                    let record = &self.records[at];
                    self.builder.apply(&mut image, record, record.span.count)?;
                }
                image
            }
        };
        self.points.push(CrashPoint {
            image,
            first,
            end,
            volatile,
        });
        Ok(())
    }

    fn one_lost(&mut self, number: usize, which: usize) -> io::Result<Option<CrashState>> {
        let Some(point) = self.points.get(number) else {
            self.phase = Phase::Subsets(self.subsets());
            return Ok(None);
        };
        let Some(&lost) = point.volatile.get(which) else {
            self.phase = Phase::OneLost(number + 1, 0);
            return Ok(None);
        };
        self.phase = Phase::OneLost(number, which + 1);
        let lost_words = self.words_of(&[lost], point.volatile.len());
        self.without(
            number,
            |at| at == lost,
            |flushes, end| format!("{end} and {flushes}, without {lost_words}"),
        )
    }

    fn subsets(&self) -> VecDeque<Subsets> {
        let mut mixer = Rng::with_seed(self.seed);
        let share = (self.left as u64).div_ceil(self.points.len().max(1) as u64);
        (self.points.iter().enumerate())
            .map(|(number, point)| {
                let writes = point.volatile.len();
                let random = mixer.fork();
                let few = writes <= EXHAUSTIVE;
                Subsets {
                    point: number,
                    tried: 0,
                    tries: if few { 1 << writes } else { share * 4 },
                    random: (!few).then_some(random),
                }
            })
            .collect()
    }

    /// The next subset, of each point in turn.
    fn subset(&mut self) -> io::Result<Option<CrashState>> {
        let Phase::Subsets(queue) = &mut self.phase else {
            return Ok(None);
        };
        let Some(mut subsets) = queue.pop_front() else {
            self.phase = Phase::Torn(0);
            self.image = self.start_image.clone();
            return Ok(None);
        };
        if subsets.tried == subsets.tries {
            return Ok(None);
        }
        let mask = subsets.tried;
        subsets.tried += 1;
        let volatile = &self.points[subsets.point].volatile;
        let lost: Vec<usize> = (volatile.iter().enumerate())
            .filter(|(bit, _)| match &mut subsets.random {
                Some(random) => random.bool(),
                None => mask >> bit & 1 == 0,
            })
            .map(|(_, &at)| at)
            .collect();
        let (number, of) = (subsets.point, volatile.len());
        queue.push_back(subsets);
        let lost_words = self.words_of(&lost, of);
        self.without(
            number,
            |at| lost.binary_search(&at).is_ok(),
            |flushes, end| format!("{end} and {flushes}, without {lost_words}"),
        )
    }

    /// A point without some of its writes.
    fn without(
        &mut self,
        number: usize,
        is_lost: impl Fn(usize) -> bool,
        describe: impl FnOnce(&str, &str) -> String,
    ) -> io::Result<Option<CrashState>> {
        let point = &self.points[number];
        let (first, end) = (point.first, point.end);
        let mut image = point.image.clone();
        let mut applied: Vec<_> = (self.start..first.max(self.start)).collect();
        for at in first..end {
            if is_lost(at) {
                continue;
            }
            let record = &self.records[at];
            self.builder.apply(&mut image, record, record.span.count)?;
            applied.push(at);
        }
        let after = self.after(end);
        Ok(self.emit(image, end, &applied, |flushes| describe(flushes, &after)))
    }

    fn torn(&mut self, at: usize) -> io::Result<Option<CrashState>> {
        let Some(record) = self.records.get(at) else {
            self.phase = Phase::Done;
            return Ok(None);
        };
        let (count, kind) = (record.span.count, record.kind);
        let mut image = self.image.clone();
        self.builder.apply(&mut self.image, record, count)?;
        self.phase = Phase::Torn(at + 1);
        if at < self.start || kind != RecordKind::Write || count < 2 {
            return Ok(None);
        }
        let sectors = Rng::with_seed(self.seed ^ record.sequence).u64(1..count);
        self.builder.apply(&mut image, record, sectors)?;
        let (write, of) = (self.writes(at + 1), self.writes(self.records.len()));
        let all: Vec<_> = (self.start..=at).collect();
        Ok(self.emit(image, at, &all, |flushes| {
            format!(
                "during write {write} of {of}, after {flushes}, with {sectors} of its {count} sectors"
            )
        }))
    }

    fn after(&self, end: usize) -> String {
        let (writes, of) = (self.writes(end), self.writes(self.records.len()));
        format!("after {writes} of {of} writes")
    }

    /// Which writes are lost, of the `of` that could be: `write 2 (sectors 16 to 23)`, `writes 1 and 3`,
    /// `9 of the last 12 writes`. Those before the start have no numbers.
    fn words_of(&self, lost: &[usize], of: usize) -> String {
        let earlier = lost.partition_point(|&at| at < self.start);
        let numbers: Vec<_> = (lost[earlier..].iter())
            .map(|&at| self.writes(at + 1).to_string())
            .collect();
        if numbers.len() > MOST_NAMED {
            return format!("{} of the last {of} writes", lost.len());
        }
        let later = match &numbers[..] {
            [] => None,
            [number] => {
                let span = self.records[lost[earlier]].span;
                let (first, last) = (span.first, span.end() - 1);
                Some(match span.count {
                    1 => format!("write {number} (sector {first})"),
                    _ => format!("write {number} (sectors {first} to {last})"),
                })
            }
            [first @ .., last] => Some(format!("writes {} and {last}", first.join(", "))),
        };
        let earlier = match earlier {
            0 => None,
            1 => Some("1 write before the mark".to_owned()),
            more => Some(format!("{more} writes before the mark")),
        };
        let words: Vec<_> = later.into_iter().chain(earlier).collect();
        words.join(" and ")
    }

    /// Writes among the records before a place, since the start.
    fn writes(&self, end: usize) -> u64 {
        let records = self.records.get(self.start..end).unwrap_or_default();
        records
            .iter()
            .filter(|record| record.span.count > 0)
            .count() as u64
    }

    /// A state, unless its content was there before.
    fn emit(
        &mut self,
        image: CrashImage,
        end: usize,
        applied: &[usize],
        describe: impl FnOnce(&str) -> String,
    ) -> Option<CrashState> {
        if !self.seen.insert(image.hash) {
            return None;
        }
        let passed = self.records.get(self.start..end).unwrap_or_default();
        let flushes = passed
            .iter()
            .filter(|record| record.kind == RecordKind::Flush)
            .count() as u64;
        let description = describe(&match flushes {
            0 => "no flush".to_owned(),
            1 => "1 flush".to_owned(),
            more => format!("{more} flushes"),
        });
        let shared = &self.builder.layers;
        let layers = Layers {
            files: shared.files.clone(),
            map: image.map,
            ..Layers::new(shared.sectors, shared.base.clone(), shared.scratch.clone())
        };
        let state = State::new(layers);
        let disk = Disk::with(
            state,
            false,
            FaultTable::new(self.disk_seed),
            self.disk_seed,
        );
        let applied = (applied.iter().map(|&at| &self.records[at]))
            .filter(|record| record.span.count > 0)
            .map(|record| record.sequence)
            .collect();
        Some(CrashState {
            description,
            flushes,
            applied,
            disk,
        })
    }
}

impl Iterator for CrashStates {
    type Item = Result<CrashState, DiskError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        match self.advance() {
            Ok(Some(state)) => {
                self.left -= 1;
                Some(Ok(state))
            }
            Ok(None) => None,
            Err(error) => {
                self.left = 0;
                Some(Err(DiskError::io("read")(error)))
            }
        }
    }
}
