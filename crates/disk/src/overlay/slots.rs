//! The free slots of a file.

use std::collections::{BTreeMap, BTreeSet};

/// The free slots of a file that grows at its end. Slots that are taken together follow each other, so that a write is
/// one write of the host and a later read of the same range one read.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    end: u64,
    by_start: BTreeMap<u64, u64>,
    by_length: BTreeSet<(u64, u64)>,
}

impl Slots {
    /// Takes slots: from the shortest free run that has so many, or at the end.
    pub(crate) fn take(&mut self, count: u64) -> u64 {
        let Some(&(length, start)) = self.by_length.range((count, 0)..).next() else {
            let start = self.end;
            self.end += count;
            return start;
        };
        self.remove(start, length);
        if length > count {
            self.insert(start + count, length - count);
        }
        start
    }

    /// Frees slots.
    pub(crate) fn free(&mut self, mut start: u64, mut count: u64) {
        if let Some((&before, &length)) = self.by_start.range(..start).next_back()
            && before + length == start
        {
            self.remove(before, length);
            start = before;
            count += length;
        }
        if let Some(&length) = self.by_start.get(&(start + count)) {
            self.remove(start + count, length);
            count += length;
        }
        if start + count == self.end {
            self.end = start;
        } else {
            self.insert(start, count);
        }
    }

    /// Whether all are free.
    pub(crate) fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Slots that are taken.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> u64 {
        self.end - self.by_start.values().sum::<u64>()
    }

    fn insert(&mut self, start: u64, length: u64) {
        self.by_start.insert(start, length);
        self.by_length.insert((length, start));
    }

    fn remove(&mut self, start: u64, length: u64) {
        self.by_start.remove(&start);
        self.by_length.remove(&(length, start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_slot_is_taken_twice(steps in proptest::collection::vec((any::<bool>(), 1..9u64, any::<usize>()), 0..60)) {
            let mut slots = Slots::default();
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (takes, count, which) in steps {
                if takes || taken.is_empty() {
                    let start = slots.take(count);
                    for &(other, length) in &taken {
                        prop_assert!(start + count <= other || other + length <= start);
                    }
                    taken.push((start, count));
                } else {
                    let (start, length) = taken.swap_remove(which % taken.len());
                    slots.free(start, length);
                }
                prop_assert_eq!(slots.taken(), taken.iter().map(|(_, length)| length).sum::<u64>());
            }
            for (start, length) in taken {
                slots.free(start, length);
            }
            prop_assert_eq!(slots.end, 0, "free slots at the end are given back");
        }
    }
}
