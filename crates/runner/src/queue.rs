//! In which order files start: those that take longest first, so that none of them is left running
//! alone at the end; before those, files that never ran, since their duration is not known, and of these
//! the longest sources, which on the whole take longest.
//!
//! A file that does not fit yet may be passed by smaller ones behind it, but only so often: then it
//! is next, and whatever is behind it waits. Files in, files out; no threads, no time.

use provium_events::Resources;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Duration;

/// How many files may start ahead of one that does not fit yet.
const PASSED_LIMIT: u32 = 4;

/// Sources that differ by less say nothing about which of two files takes longer, bytes.
const SOURCE_STEP: usize = 4096;

/// Files that wait for their turn.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: VecDeque<WaitingFile>,
}

/// A file and what is known of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Its place in the plan.
    pub(crate) index: usize,
    /// What is set aside for it.
    pub(crate) reservation: Resources,
    /// How long it took last time.
    pub(crate) duration: Option<Duration>,
    /// The length of its source.
    pub(crate) source_bytes: usize,
}

#[derive(Debug)]
struct WaitingFile {
    candidate: Candidate,
    passed: u32,
}

/// The next file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NextFile {
    /// This one may start, and is in the queue no more.
    Start(Candidate),
    /// None fits; this one has waited longest.
    Blocked(Candidate),
    /// None waits.
    Empty,
}

impl Queue {
    /// Puts files in order; those of which nothing, or the same, is known stay in theirs.
    pub(crate) fn new(mut candidates: Vec<Candidate>) -> Self {
        candidates.sort_by_key(|candidate| {
            let duration = candidate.duration.unwrap_or(Duration::MAX);
            Reverse((duration, candidate.source_bytes / SOURCE_STEP))
        });
        Self::in_order(candidates)
    }

    /// Files in an order of the caller's.
    pub(crate) fn in_order(candidates: Vec<Candidate>) -> Self {
        let waiting = |candidate| WaitingFile {
            candidate,
            passed: 0,
        };
        Self {
            waiting: candidates.into_iter().map(waiting).collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The file that has waited longest.
    pub(crate) fn first(&self) -> Option<Candidate> {
        self.waiting.front().map(|waiting| waiting.candidate)
    }

    /// The first file, whether it fits or not.
    pub(crate) fn pop(&mut self) -> Option<Candidate> {
        self.waiting.pop_front().map(|waiting| waiting.candidate)
    }

    /// The next file whose reservation is admitted.
    pub(crate) fn next(&mut self, admits: impl Fn(Resources) -> bool) -> NextFile {
        let Some(first) = self.first() else {
            return NextFile::Empty;
        };
        // None may pass the first that was passed often enough.
        let in_reach = self
            .waiting
            .iter()
            .position(|waiting| waiting.passed >= PASSED_LIMIT)
            .map_or(self.waiting.len(), |starving| starving + 1);
        let fits = |waiting: &WaitingFile| admits(waiting.candidate.reservation);
        let found = self.waiting.iter().take(in_reach).position(fits);
        let Some(chosen) = found.and_then(|at| self.waiting.remove(at).map(|w| (at, w))) else {
            return NextFile::Blocked(first);
        };
        let (at, chosen) = chosen;
        for passed in self.waiting.iter_mut().take(at) {
            passed.passed += 1;
        }
        NextFile::Start(chosen.candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cpus(cpus: u32) -> Resources {
        Resources {
            memory_bytes: 0,
            cpus,
        }
    }

    fn queue(files: &[(u32, Option<u64>)]) -> Queue {
        let candidate = |(index, (need, seconds)): (usize, &(u32, Option<u64>))| Candidate {
            index,
            reservation: cpus(*need),
            duration: seconds.map(Duration::from_secs),
            source_bytes: 0,
        };
        Queue::new(files.iter().enumerate().map(candidate).collect())
    }

    fn order(mut queue: Queue) -> Vec<usize> {
        std::iter::from_fn(|| queue.pop().map(|candidate| candidate.index)).collect()
    }

    fn started(next: NextFile) -> Option<usize> {
        match next {
            NextFile::Start(candidate) => Some(candidate.index),
            NextFile::Blocked(_) | NextFile::Empty => None,
        }
    }

    #[test]
    fn the_unknown_come_first_then_the_longest() {
        let files = [
            (1, Some(1)),
            (1, None),
            (1, Some(9)),
            (1, None),
            (1, Some(1)),
        ];
        assert_eq!(order(queue(&files)), [1, 3, 2, 0, 4]);
    }

    #[test]
    fn of_the_unknown_the_longest_sources_come_first() {
        let sources = [100, SOURCE_STEP, SOURCE_STEP - 1, 9 * SOURCE_STEP, 200];
        let candidate = |(index, source_bytes)| Candidate {
            index,
            reservation: cpus(1),
            duration: None,
            source_bytes,
        };
        let files = sources.into_iter().enumerate().map(candidate).collect();
        assert_eq!(order(Queue::new(files)), [3, 1, 0, 2, 4]);
    }

    #[test]
    fn a_small_file_passes_a_large_one_until_that_would_starve() {
        let mut queue = queue(&[
            (4, Some(9)),
            (1, Some(8)),
            (1, Some(7)),
            (1, Some(6)),
            (1, Some(5)),
            (1, Some(4)),
        ]);
        // One of two places is taken all the time: the large file never fits.
        for small in 1..=4 {
            let next = queue.next(|need| need.cpus <= 1);
            assert_eq!(started(next), Some(small));
        }
        let next = queue.next(|need| need.cpus <= 1);
        assert!(
            matches!(next, NextFile::Blocked(Candidate { index: 0, .. })),
            "{next:?}"
        );
        assert_eq!(started(queue.next(|_| true)), Some(0));
        assert_eq!(started(queue.next(|need| need.cpus <= 1)), Some(5));
        assert!(matches!(queue.next(|_| true), NextFile::Empty));
    }

    proptest! {
        /// However files come and go, each starts, none out of its turn more often than allowed.
        #[test]
        fn no_file_starves(
            files in prop::collection::vec((1_u32..6, prop::option::of(0_u64..9)), 1..40),
            ends in prop::collection::vec(any::<prop::sample::Index>(), 80),
        ) {
            const TOTAL: u32 = 5;
            let mut queue = queue(&files);
            let turn: Vec<usize> = queue.waiting.iter().map(|w| w.candidate.index).collect();
            let (mut running, mut history) = (Vec::new(), Vec::new());
            let mut ends = ends.into_iter();
            while !queue.is_empty() {
                let used: u32 = running.iter().map(|(_, need)| *need).sum();
                match queue.next(|need| used + need.cpus <= TOTAL) {
                    NextFile::Start(candidate) => {
                        history.push(candidate.index);
                        running.push((candidate.index, candidate.reservation.cpus));
                    }
                    _ => {
                        prop_assert!(!running.is_empty(), "nothing runs, and nothing may start");
                        let at = ends.next().map_or(0, |index| index.index(running.len()));
                        running.remove(at);
                    }
                }
            }
            prop_assert_eq!(history.len(), files.len());
            for (place, file) in turn.iter().enumerate() {
                let before = history.iter().take_while(|other| *other != file);
                let passed = before.filter(|other| !turn[..place].contains(other)).count();
                prop_assert!(passed <= PASSED_LIMIT as usize, "{} files passed {}", passed, file);
            }
        }
    }
}
