//! How long a run will still take, from how long its files took before.
//!
//! Files are laid out over as many lanes as there are files running now, longest first, which is
//! what the dispatcher does. A file of which nothing is known is taken to last as long as the mean
//! of those of which something is. It is a guess: it knows nothing of what files wait for.

/// What is left to do.
#[derive(Debug, Default)]
pub(crate) struct RemainingWork {
    /// Of each running file: how long it has run, and how long it took last time. Nanoseconds.
    pub(crate) running: Vec<(u64, Option<u64>)>,
    /// Of each waiting file: how long it took last time.
    pub(crate) waiting: Vec<Option<u64>>,
    /// Of files that are done: how long they took.
    pub(crate) done: Vec<u64>,
}

/// Nanoseconds until all is done. `None` where there is nothing to go by: no durations at all, or
/// only files that already take longer than expected.
pub(crate) fn remaining(left: &RemainingWork) -> Option<u64> {
    let of_running = left.running.iter().filter_map(|(_, known)| *known);
    let of_waiting = left.waiting.iter().filter_map(|known| *known);
    let known: Vec<u64> = of_running
        .chain(of_waiting)
        .chain(left.done.iter().copied())
        .collect();
    let count = u64::try_from(known.len()).ok().filter(|count| *count > 0)?;
    let mean = known
        .iter()
        .fold(0, |sum: u64, one| sum.saturating_add(*one))
        / count;

    let mut lanes: Vec<u64> = left
        .running
        .iter()
        .map(|(elapsed, known)| known.unwrap_or(mean).saturating_sub(*elapsed))
        .collect();
    if lanes.is_empty() {
        lanes.push(0);
    }
    let mut waiting: Vec<u64> = left
        .waiting
        .iter()
        .map(|known| known.unwrap_or(mean))
        .collect();
    waiting.sort_unstable_by(|one, other| other.cmp(one));
    for file in waiting {
        if let Some(first_free) = lanes.iter_mut().min() {
            *first_free = first_free.saturating_add(file);
        }
    }
    lanes.into_iter().max().filter(|remaining| *remaining > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_files_are_the_lanes() {
        let left = RemainingWork {
            running: vec![(4, Some(10)), (1, Some(3))],
            waiting: vec![Some(1), Some(5)],
            done: vec![],
        };
        // Lanes of 6 and 2; the file of 5 goes to the second, that of 1 to the first.
        assert_eq!(remaining(&left), Some(7));
    }

    #[test]
    fn the_unknown_last_as_long_as_the_mean() {
        let left = RemainingWork {
            running: vec![(0, None)],
            waiting: vec![None],
            done: vec![2, 4],
        };
        assert_eq!(remaining(&left), Some(6));
    }

    #[test]
    fn without_a_known_duration_no_estimate_is_shown() {
        assert_eq!(remaining(&RemainingWork::default()), None);
        let unknown = RemainingWork {
            running: vec![(5, None)],
            ..RemainingWork::default()
        };
        assert_eq!(remaining(&unknown), None);
        let late = RemainingWork {
            running: vec![(11, Some(10))],
            ..RemainingWork::default()
        };
        assert_eq!(remaining(&late), None);
    }
}
