//! Where blocks are.

/// Where a block is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Address(u64);

/// What an address means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In the base, at the number of the block.
    Base,
    /// Nowhere: it is zeroes.
    Zeroes,
    /// In a slot of a file of the overlay.
    Slot {
        /// The number of the file.
        file: u16,
        /// The slot.
        slot: u64,
    },
}

const FILE_SHIFT: u32 = 48;

impl Address {
    /// The base has it.
    pub(crate) const BASE: Self = Self(u64::MAX);
    /// It is zeroes.
    pub(crate) const ZEROES: Self = Self(u64::MAX - 1);

    /// In a slot; the number of the file is below `u16::MAX`, the number of the slot below 2^48.
    pub(crate) fn slot(file: u16, slot: u64) -> Self {
        debug_assert!(file < u16::MAX && slot < 1 << FILE_SHIFT);
        Self(u64::from(file) << FILE_SHIFT | slot)
    }

    /// What it means.
    pub(crate) fn place(self) -> Place {
        match self {
            Self::BASE => Place::Base,
            Self::ZEROES => Place::Zeroes,
            Self(bits) => Place::Slot {
                file: u16::try_from(bits >> FILE_SHIFT).unwrap_or(u16::MAX),
                slot: bits & ((1 << FILE_SHIFT) - 1),
            },
        }
    }

    /// The address of a later block of the run.
    pub(crate) fn after(self, blocks: u64) -> Self {
        match self.place() {
            Place::Base | Place::Zeroes => self,
            Place::Slot { .. } => Self(self.0 + blocks),
        }
    }

    /// The number that a file has for it.
    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    /// The opposite.
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// Blocks that follow each other, on the disk and where they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// Where the first one is.
    pub(crate) address: Address,
    /// How many.
    pub(crate) blocks: u64,
}

/// Where each block of a range is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Runs(Vec<Run>);

impl Runs {
    /// One run.
    pub(crate) fn one(address: Address, blocks: u64) -> Self {
        Self(vec![Run { address, blocks }])
    }

    /// Appends blocks.
    pub(crate) fn push(&mut self, run: Run) {
        match self.0.last_mut() {
            Some(last) if last.address.after(last.blocks) == run.address => {
                last.blocks += run.blocks;
            }
            _ if run.blocks == 0 => {}
            _ => self.0.push(run),
        }
    }

    /// The runs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Run> {
        self.0.iter().copied()
    }

    /// How many runs.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The address of a block, counted from the first.
    pub(crate) fn get(&self, mut block: u64) -> Option<Address> {
        for run in &self.0 {
            if block < run.blocks {
                return Some(run.address.after(block));
            }
            block -= run.blocks;
        }
        None
    }

    /// The same with one block elsewhere.
    pub(crate) fn with(&self, block: u64, address: Address) -> Self {
        let mut changed = Self::default();
        let mut first = 0;
        for run in self.iter() {
            if (first..first + run.blocks).contains(&block) {
                let before = block - first;
                changed.push(Run {
                    address: run.address,
                    blocks: before,
                });
                changed.push(Run { address, blocks: 1 });
                changed.push(Run {
                    address: run.address.after(before + 1),
                    blocks: run.blocks - before - 1,
                });
            } else {
                changed.push(run);
            }
            first += run.blocks;
        }
        changed
    }

    /// The first blocks, and the rest.
    pub(crate) fn split(&self, blocks: u64) -> (Self, Self) {
        let (mut front, mut back) = (Self::default(), Self::default());
        let mut first = 0;
        for run in self.iter() {
            let in_front = blocks.saturating_sub(first).min(run.blocks);
            front.push(Run {
                address: run.address,
                blocks: in_front,
            });
            back.push(Run {
                address: run.address.after(in_front),
                blocks: run.blocks - in_front,
            });
            first += run.blocks;
        }
        (front, back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_joined_and_split() {
        let mut runs = Runs::default();
        for (address, blocks) in [
            (Address::slot(1, 5), 2),
            (Address::slot(1, 7), 1),
            (Address::BASE, 3),
            (Address::BASE, 1),
            (Address::ZEROES, 0),
        ] {
            runs.push(Run { address, blocks });
        }
        assert_eq!(runs.len(), 2);
        assert_eq!(runs.get(2), Some(Address::slot(1, 7)));
        assert_eq!(runs.get(6), Some(Address::BASE));
        assert_eq!(runs.get(7), None);
        let changed = runs.with(1, Address::ZEROES);
        let all: Vec<_> = (0..7).filter_map(|block| changed.get(block)).collect();
        assert_eq!(
            all,
            [
                Address::slot(1, 5),
                Address::ZEROES,
                Address::slot(1, 7),
                Address::BASE,
                Address::BASE,
                Address::BASE,
                Address::BASE
            ]
        );
        let (front, back) = runs.split(2);
        assert_eq!(front, Runs::one(Address::slot(1, 5), 2));
        assert_eq!(back.get(0), Some(Address::slot(1, 7)));
        assert_eq!(back.get(4), Some(Address::BASE));
    }

    #[test]
    fn an_address_names_its_place() {
        let address = Address::slot(3, 77);
        assert_eq!(address.after(2).place(), Place::Slot { file: 3, slot: 79 });
        assert_eq!(Address::from_bits(address.to_bits()), address);
        assert_eq!(Address::ZEROES.after(9), Address::ZEROES);
    }
}
