//! The address of each block.

use super::address::{Address, Run, Runs};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Blocks of a page.
const PAGE: u64 = 512;

type Page = [Address; PAGE as usize];

/// Where each block is. Pages that were never written are absent: their blocks are in the base. A clone shares all
/// pages with the original until one of the two changes them.
#[derive(Clone, Default, Debug)]
pub(crate) struct BlockMap {
    pages: BTreeMap<u64, Arc<Page>>,
}

impl BlockMap {
    /// Where a block is.
    pub(crate) fn get(&self, block: u64) -> Address {
        self.pages
            .get(&(block / PAGE))
            .map_or(Address::BASE, |page| page[index(block)])
    }

    /// The runs of a range, in order; two that follow each other may be one.
    pub(crate) fn runs_in(&self, first: u64, blocks: u64) -> RunsIn<'_> {
        RunsIn {
            map: self,
            at: first,
            end: first + blocks,
        }
    }

    /// Where the blocks of a range are.
    pub(crate) fn runs(&self, first: u64, blocks: u64) -> Runs {
        let mut runs = Runs::default();
        for run in self.runs_in(first, blocks) {
            runs.push(run);
        }
        runs
    }

    /// All runs that are not in the base, with their first block.
    pub(crate) fn mapped(&self) -> impl Iterator<Item = (u64, Run)> {
        self.pages.keys().flat_map(|&page| {
            let mut at = page * PAGE;
            self.runs_in(at, PAGE).filter_map(move |run| {
                let first = at;
                at += run.blocks;
                (run.address != Address::BASE).then_some((first, run))
            })
        })
    }

    /// Sets where the blocks of a range are.
    pub(crate) fn set(&mut self, first: u64, runs: &Runs) {
        let mut at = first;
        for run in runs.iter() {
            self.set_run(at, run);
            at += run.blocks;
        }
    }

    fn set_run(&mut self, first: u64, run: Run) {
        let end = first + run.blocks;
        let is_constant = run.address.after(1) == run.address;
        let mut whole = None;
        let mut at = first;
        while at < end {
            let number = at / PAGE;
            let next = ((number + 1) * PAGE).min(end);
            if is_constant && next - at == PAGE {
                if run.address == Address::BASE {
                    self.pages.remove(&number);
                } else {
                    let page = whole.get_or_insert_with(|| Arc::new([run.address; PAGE as usize]));
                    self.pages.insert(number, Arc::clone(page));
                }
            } else {
                let page = self
                    .pages
                    .entry(number)
                    .or_insert_with(|| Arc::new([Address::BASE; PAGE as usize]));
                let page = Arc::make_mut(page);
                for block in at..next {
                    page[index(block)] = run.address.after(block - first);
                }
            }
            at = next;
        }
    }

    /// Forgets all: every block is in the base.
    pub(crate) fn clear(&mut self) {
        self.pages.clear();
    }
}

/// See [`BlockMap::runs_in`].
pub(crate) struct RunsIn<'a> {
    map: &'a BlockMap,
    at: u64,
    end: u64,
}

impl Iterator for RunsIn<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        if self.at >= self.end {
            return None;
        }
        let number = self.at / PAGE;
        let Some(page) = self.map.pages.get(&number) else {
            let next = self.map.pages.range(number..).next();
            let until = next.map_or(self.end, |(next, _)| (next * PAGE).min(self.end));
            let blocks = until - self.at;
            self.at = until;
            return Some(Run {
                address: Address::BASE,
                blocks,
            });
        };
        let address = page[index(self.at)];
        let until = ((number + 1) * PAGE).min(self.end);
        let mut blocks = 1;
        while self.at + blocks < until && page[index(self.at + blocks)] == address.after(blocks) {
            blocks += 1;
        }
        self.at += blocks;
        Some(Run { address, blocks })
    }
}

fn index(block: u64) -> usize {
    crate::geometry::to_usize(block % PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address() -> impl Strategy<Value = Address> {
        prop_oneof![
            Just(Address::BASE),
            Just(Address::ZEROES),
            (0..3u16, 0..5000u64).prop_map(|(file, slot)| Address::slot(file, slot)),
        ]
    }

    proptest! {
        #[test]
        fn a_map_is_an_array(
            changes in proptest::collection::vec((0..1400u64, 1..1300u64, address()), 0..12),
            asked in (0..1500u64, 1..1300u64),
        ) {
            let mut map = BlockMap::default();
            let mut model = vec![Address::BASE; 3000];
            for (first, blocks, address) in changes {
                let before = map.clone();
                map.set(first, &Runs::one(address, blocks));
                prop_assert_eq!(before.get(first), model[first as usize], "a clone keeps what it has");
                for block in 0..blocks {
                    model[(first + block) as usize] = address.after(block);
                }
            }
            let runs = map.runs(asked.0, asked.1);
            for block in 0..asked.1 {
                prop_assert_eq!(runs.get(block), Some(model[(asked.0 + block) as usize]));
            }
            prop_assert_eq!(runs.get(asked.1), None);
            let mut mapped = vec![Address::BASE; 3000];
            for (first, run) in map.mapped() {
                for block in 0..run.blocks {
                    mapped[(first + block) as usize] = run.address.after(block);
                }
            }
            prop_assert_eq!(mapped, model);
        }
    }
}
