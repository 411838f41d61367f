//! The file `map` of a saved disk.
//!
//! ```text
//! magic "PVDMAP01"
//! last, flushed                                       numbers of commands
//! runs, then for each: first block, blocks, address   what is not in the base
//! records, then for each:                             what is not durable, oldest first
//!   sequence, kind, first sector, sectors, durable
//!   runs, then for each: address, blocks              where the blocks were before
//!   runs, then for each: address, blocks              where they are
//! checksum                                            the first 8 bytes of the BLAKE3 hash of all before
//! ```
//!
//! All but the magic are 64-bit numbers, least significant byte first. A decoder takes nothing on trust: blocks are
//! within the disk, slots within the files, and nothing is allocated for a count before its entries were read.

use crate::geometry::{BLOCK, BLOCK_SECTORS, Span};
use crate::overlay::{Address, BlockMap, Place, Run, Runs};
use crate::record::{Record, RecordKind};
use crate::state::State;

const MAGIC: &[u8; 8] = b"PVDMAP01";

/// What the file has.
#[derive(Debug)]
pub(crate) struct Content {
    last: u64,
    flushed: u64,
    map: BlockMap,
    records: Vec<Record>,
}

const KINDS: [(RecordKind, u64); 3] = [
    (RecordKind::Write, 0),
    (RecordKind::Zeroes, 1),
    (RecordKind::Discard, 2),
];

impl Content {
    /// The map of a disk whose files are sealed.
    pub(crate) fn of(state: &State) -> Self {
        let from = state.first_unflushed();
        Self {
            last: state.last,
            flushed: state.flushed,
            map: state.layers.map.clone(),
            records: state.records.iter().skip(from).cloned().collect(),
        }
    }

    /// Makes it the map of a new disk.
    pub(crate) fn into_state(self, state: &mut State) {
        state.last = self.last;
        state.flushed = self.flushed;
        state.layers.map = self.map;
        for record in self.records {
            state.push(record);
        }
    }

    /// The bytes of the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let mut put = |number: u64| bytes.extend_from_slice(&number.to_le_bytes());
        put(self.last);
        put(self.flushed);
        put(self.map.mapped().count() as u64);
        for (first, run) in self.map.mapped() {
            put(first);
            put(run.blocks);
            put(run.address.to_bits());
        }
        put(self.records.len() as u64);
        for record in &self.records {
            put(record.sequence);
            put((KINDS.iter())
                .find(|(kind, _)| *kind == record.kind)
                .map_or(u64::MAX, |(_, code)| *code));
            put(record.span.first);
            put(record.span.count);
            put(u64::from(record.is_durable));
            for runs in [&record.old, &record.new] {
                put(runs.len() as u64);
                for run in runs.iter() {
                    put(run.address.to_bits());
                    put(run.blocks);
                }
            }
        }
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// Bytes with their checksum.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn seal(body: &[u8]) -> Vec<u8> {
        let mut bytes = body.to_vec();
        bytes.extend_from_slice(&checksum(body));
        bytes
    }

    /// What a file has, for a disk of so many sectors with files of these lengths in bytes.
    pub(crate) fn decode(bytes: &[u8], sectors: u64, files: &[u64]) -> Result<Self, String> {
        let Some((body, sum)) = bytes.split_last_chunk::<8>() else {
            return Err("its map is too short".to_owned());
        };
        if checksum(body) != *sum {
            return Err("the checksum of its map is wrong".to_owned());
        }
        let Some(numbers) = body.strip_prefix(MAGIC) else {
            return Err("its map is of another version".to_owned());
        };
        let reader = Reader {
            rest: numbers,
            sectors,
            files,
        };
        reader
            .content()
            .ok_or_else(|| "its map has impossible numbers".to_owned())
    }
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    sum
}

struct Reader<'a> {
    rest: &'a [u8],
    sectors: u64,
    files: &'a [u64],
}

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn blocks(&self) -> u64 {
        self.sectors.div_ceil(BLOCK_SECTORS)
    }

    fn content(mut self) -> Option<Content> {
        let last = self.number()?;
        let flushed = self.number()?;
        let map = self.map()?;
        let mut records = Vec::new();
        let mut before = flushed;
        for _ in 0..self.number()? {
            let record = self.record()?;
            if record.sequence <= before || record.sequence > last {
                return None;
            }
            before = record.sequence;
            records.push(record);
        }
        (self.rest.is_empty() && flushed <= last).then_some(Content {
            last,
            flushed,
            map,
            records,
        })
    }

    fn map(&mut self) -> Option<BlockMap> {
        let mut map = BlockMap::default();
        let mut at = 0;
        for _ in 0..self.number()? {
            let first = self.number()?;
            let blocks = self.number()?;
            let run = self.run_of(blocks)?;
            let end = first.checked_add(blocks)?;
            if first < at || end > self.blocks() {
                return None;
            }
            map.set(first, &Runs::one(run.address, blocks));
            at = end;
        }
        Some(map)
    }

    fn record(&mut self) -> Option<Record> {
        let sequence = self.number()?;
        let code = self.number()?;
        let kind = KINDS.iter().find(|(_, known)| *known == code)?.0;
        let span = Span {
            first: self.number()?,
            count: self.number()?,
        };
        let is_durable = match self.number()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        if span.count == 0 || span.first.checked_add(span.count)? > self.sectors {
            return None;
        }
        Some(Record {
            sequence,
            kind,
            span,
            is_durable,
            old: self.runs(span.blocks())?,
            new: self.runs(span.blocks())?,
            lost: Box::default(),
            held: 0,
        })
    }

    /// Runs of this number of blocks.
    fn runs(&mut self, mut blocks: u64) -> Option<Runs> {
        let mut runs = Runs::default();
        for _ in 0..self.number()? {
            let address = self.number()?;
            let length = self.number()?;
            let run = self.check(Address::from_bits(address), length)?;
            blocks = blocks.checked_sub(length)?;
            runs.push(run);
        }
        (blocks == 0).then_some(runs)
    }

    fn run_of(&mut self, blocks: u64) -> Option<Run> {
        let address = Address::from_bits(self.number()?);
        self.check(address, blocks)
    }

    /// A run whose slots exist. The last one may be short: a disk may end within a block.
    fn check(&self, address: Address, blocks: u64) -> Option<Run> {
        if let Place::Slot { file, slot } = address.place() {
            let length = *self.files.get(usize::from(file))?;
            if slot.checked_add(blocks)? > length.div_ceil(BLOCK) {
                return None;
            }
        }
        (blocks > 0 && blocks <= self.blocks()).then_some(Run { address, blocks })
    }
}

#[cfg(test)]
impl Content {
    /// One with an entry of each kind.
    pub(crate) fn example() -> Self {
        let mut map = BlockMap::default();
        map.set(3, &Runs::one(Address::slot(0, 1), 2));
        map.set(9, &Runs::one(Address::ZEROES, 1));
        Self {
            last: 7,
            flushed: 5,
            map,
            records: vec![Record {
                sequence: 7,
                kind: RecordKind::Discard,
                span: Span {
                    first: 72,
                    count: 8,
                },
                is_durable: false,
                old: Runs::one(Address::BASE, 1),
                new: Runs::one(Address::ZEROES, 1),
                lost: Box::default(),
                held: 0,
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_are_pinned() {
        let bytes = Content::example().encode();
        let mut expected = b"PVDMAP01".to_vec();
        let zeroes = u64::MAX - 1;
        for number in [
            7,
            5,
            2,
            3,
            2,
            1,
            9,
            1,
            zeroes,
            1,
            7,
            2,
            72,
            8,
            0,
            1,
            u64::MAX,
            1,
            1,
            zeroes,
            1,
        ] {
            expected.extend_from_slice(&number.to_le_bytes());
        }
        assert_eq!(bytes[..bytes.len() - 8], expected);
        let decoded = Content::decode(&bytes, 80, &[4096 * 3]).unwrap();
        assert_eq!(decoded.encode(), bytes);
    }

    #[test]
    fn what_is_outside_is_refused() {
        let bytes = Content::example().encode();
        for (sectors, files) in [(72, vec![4096 * 3]), (80, vec![4096 * 2]), (80, vec![])] {
            assert!(Content::decode(&bytes, sectors, &files).is_err());
        }
    }

    proptest! {
        #[test]
        fn damage_is_refused(at in 0..168usize, change in 1..=255u8) {
            let mut bytes = Content::example().encode();
            bytes[at] ^= change;
            prop_assert!(Content::decode(&bytes, 80, &[4096 * 3]).is_err());
        }

        #[test]
        fn any_numbers_are_refused_or_make_a_map_within_the_disk(
            numbers in proptest::collection::vec(prop_oneof![0..12u64, Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()], 0..40),
        ) {
            let mut body = MAGIC.to_vec();
            for number in numbers {
                body.extend_from_slice(&number.to_le_bytes());
            }
            if let Ok(content) = Content::decode(&Content::seal(&body), 80, &[4096 * 3]) {
                prop_assert!(content.map.mapped().all(|(first, run)| first + run.blocks <= 10));
            }
        }
    }
}
