//! Crash states, against all that the model allows.

use crate::rig::{Guest, Rig, sectors};
use proptest::prelude::*;
use provium_disk::{
    Base, CommandKind, CrashOptions, CrashState, Disk, DiskError, DiskSpec, LogMark,
};
use std::collections::BTreeSet;
use std::time::Instant;

const SECTORS: u64 = 24;

const ALL: CrashOptions = CrashOptions {
    since: None,
    most: 100_000,
    seed: 5,
};

fn states(disk: &Disk, options: CrashOptions) -> Vec<CrashState> {
    disk.crash_states(options)
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn content(disk: &Disk) -> Vec<u8> {
    disk.read_sectors(0, disk.size() / 512).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Write {
        first: u64,
        count: u64,
        fua: bool,
        byte: u8,
    },
    Zeroes {
        first: u64,
        count: u64,
    },
    Discard {
        first: u64,
        count: u64,
    },
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let range =
        || (0..SECTORS, 1..12u64).prop_map(|(first, count)| (first, count.min(SECTORS - first)));
    prop_oneof![
        // Few values, so that some contents come twice.
        6 => (range(), proptest::bool::weighted(0.2), 1..4u8)
            .prop_map(|((first, count), fua, byte)| Step::Write { first, count, fua, byte }),
        1 => range().prop_map(|(first, count)| Step::Zeroes { first, count }),
        1 => range().prop_map(|(first, count)| Step::Discard { first, count }),
        2 => Just(Step::Flush),
    ]
}

fn carry_out(disk: &Disk, step: &Step) {
    match *step {
        Step::Write {
            first,
            count,
            fua,
            byte,
        } => disk.write(first, &sectors(count, byte), fua).unwrap(),
        Step::Zeroes { first, count } => {
            disk.other(CommandKind::WriteZeroes, first, count).unwrap()
        }
        Step::Discard { first, count } => disk.other(CommandKind::Discard, first, count).unwrap(),
        Step::Flush => disk.flush().unwrap(),
    }
}

fn apply(content: &mut [u8], step: &Step, most: u64) {
    let (first, count, byte) = match *step {
        Step::Write {
            first, count, byte, ..
        } => (first, count, byte),
        Step::Zeroes { first, count } | Step::Discard { first, count } => (first, count, 0),
        Step::Flush => return,
    };
    let end = first + count.min(most);
    content[first as usize * 512..end as usize * 512].fill(byte);
}

/// All contents after a crash at any point, by trying all subsets.
fn possible(start: &[u8], steps: &[Step]) -> BTreeSet<Vec<u8>> {
    let mut all = BTreeSet::new();
    for point in 0..=steps.len() {
        let flushed = (steps[..point].iter())
            .rposition(|step| matches!(step, Step::Flush))
            .map_or(0, |at| at + 1);
        let volatile: Vec<usize> = (flushed..point)
            .filter(|&at| !matches!(steps[at], Step::Write { fua: true, .. }))
            .collect();
        for mask in 0..1u32 << volatile.len() {
            let mut content = start.to_vec();
            for (at, step) in steps[..point].iter().enumerate() {
                let bit = volatile.iter().position(|&other| other == at);
                if bit.is_none_or(|bit| mask >> bit & 1 == 1) {
                    apply(&mut content, step, u64::MAX);
                }
            }
            all.insert(content);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn they_are_those_that_all_subsets_give(
        in_place in any::<bool>(),
        before in proptest::collection::vec(step(), 0..4),
        steps in proptest::collection::vec(step(), 0..8),
    ) {
        let rig = Rig::new();
        let base = if in_place {
            std::fs::write(rig.path("image"), sectors(7, 9)).unwrap();
            Base::InPlace(rig.path("image"))
        } else {
            Base::Zeroes
        };
        let disk = Disk::open(rig.spec(SECTORS * 512, base)).unwrap();
        for step in &before {
            carry_out(&disk, step);
        }
        disk.flush().unwrap();
        disk.record_log(true).unwrap();
        let start = content(&disk);
        for step in &steps {
            carry_out(&disk, step);
        }
        let states = states(&disk, ALL);
        let (torn, whole): (Vec<_>, Vec<_>) =
            states.iter().partition(|state| state.description.starts_with("during"));
        let contents: BTreeSet<_> = whole.iter().map(|state| content(&state.disk)).collect();
        prop_assert_eq!(contents.len(), whole.len(), "no content comes twice");
        prop_assert_eq!(&contents, &possible(&start, &steps));
        let mut tears = BTreeSet::new();
        for at in 0..steps.len() {
            for most in 1..SECTORS {
                let mut content = start.clone();
                for step in &steps[..at] {
                    apply(&mut content, step, u64::MAX);
                }
                apply(&mut content, &steps[at], most);
                tears.insert(content);
            }
        }
        for state in torn {
            prop_assert!(tears.contains(&content(&state.disk)), "{}", state.description);
        }
        prop_assert_eq!(&content(&states[0].disk), &start, "the empty prefix is first");
    }
}

/// Gives the byte of each step, so that a sector tells which step wrote it.
fn mark(step: &Step, number: usize) -> Step {
    match *step {
        Step::Write {
            first, count, fua, ..
        } => Step::Write {
            first,
            count,
            fua,
            byte: number as u8 + 1,
        },
        ref other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sector_has_what_was_flushed_last_or_was_written_since(
        before in proptest::collection::vec(step(), 0..12),
        after in proptest::collection::vec(step(), 0..24),
        seed in any::<u64>(),
    ) {
        let rig = Rig::new();
        let disk = Disk::open(rig.spec(SECTORS * 512, Base::Zeroes)).unwrap();
        disk.record_log(true).unwrap();
        let steps = before.iter().chain(&after).enumerate();
        let steps: Vec<_> = steps.map(|(number, step)| mark(step, number)).collect();
        for step in &steps[..before.len()] {
            carry_out(&disk, step);
        }
        let since = Some(disk.mark_log().unwrap());
        for step in &steps[before.len()..] {
            carry_out(&disk, step);
        }
        for state in states(&disk, CrashOptions { since, most: 300, seed }) {
            // From the flush that the state has completed last to the next one.
            let all: Vec<_> = (0..steps.len()).filter(|&at| matches!(steps[at], Step::Flush)).collect();
            let earlier = all.iter().filter(|&&at| at < before.len()).count();
            let passed = earlier + state.flushes as usize;
            let first = passed.checked_sub(1).map_or(0, |flush| all[flush] + 1);
            let end = all.get(passed).map_or(steps.len(), |&at| at);
            let mut flushed = vec![0; SECTORS as usize * 512];
            for step in &steps[..first] {
                apply(&mut flushed, step, u64::MAX);
            }
            let found = content(&state.disk);
            for sector in 0..SECTORS as usize {
                let at = sector * 512..(sector + 1) * 512;
                let written = steps[first..end].iter().any(|step| {
                    let mut one = flushed.clone();
                    apply(&mut one, step, u64::MAX);
                    one[at.clone()] == found[at.clone()]
                });
                prop_assert!(
                    written || found[at.clone()] == flushed[at],
                    "sector {} of {}", sector, state.description
                );
            }
        }
    }
}

#[test]
fn the_shortest_prefix_comes_first_and_each_state_is_described() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.put(0, &sectors(1, 9));
    disk.flush().unwrap();
    let mark = disk.mark_log().unwrap();
    disk.put(0, &sectors(8, 1));
    disk.flush().unwrap();
    disk.put(8, &sectors(8, 2));
    disk.put(16, &sectors(8, 3));
    disk.put(16, &sectors(8, 3));
    disk.flush().unwrap();
    let states = states(
        &disk,
        CrashOptions {
            since: Some(mark),
            ..ALL
        },
    );
    let described: Vec<_> = states
        .iter()
        .map(|state| {
            (
                state.description.as_str(),
                state.flushes,
                state.applied.as_slice(),
            )
        })
        .collect();
    let first = described[0].2;
    assert_eq!(first, [] as [u64; 0]);
    assert_eq!(
        described[..6],
        [
            ("after 0 of 4 writes and no flush", 0, &[][..]),
            ("after 1 of 4 writes and no flush", 0, &[2][..]),
            ("after 2 of 4 writes and 1 flush", 1, &[2, 4][..]),
            ("after 3 of 4 writes and 1 flush", 1, &[2, 4, 5][..]),
            (
                "after 4 of 4 writes and 1 flush, without write 2 (sectors 8 to 15)",
                1,
                &[2, 5, 6][..]
            ),
            (
                "during write 1 of 4, after no flush, with 6 of its 8 sectors",
                0,
                &[2][..]
            ),
        ]
    );
}

#[test]
fn lost_writes_are_named() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.put(0, &sectors(1, 1));
    let mark = disk.mark_log().unwrap();
    for number in 1..=8 {
        disk.put(number * 8, &sectors(1, 2));
    }
    let options = CrashOptions {
        since: Some(mark),
        ..ALL
    };
    let described: BTreeSet<_> = (states(&disk, options).into_iter())
        .map(|state| state.description)
        .collect();
    for lost in [
        "write 2 (sector 16)",
        "1 write before the mark",
        "write 8 (sector 64) and 1 write before the mark",
        "writes 1 and 3",
        "writes 1, 2, 3, 4, 5 and 6",
        "9 of the last 9 writes",
    ] {
        let words = format!("after 8 of 8 writes and no flush, without {lost}");
        assert!(described.contains(&words), "{words}: {described:#?}");
    }
}

#[test]
fn a_mark_must_be_one_of_the_log() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    let since = |mark| CrashOptions {
        since: Some(mark),
        ..ALL
    };
    let start = disk.mark_log().unwrap();
    disk.put(0, &sectors(8, 1));
    let end = disk.mark_log().unwrap();
    assert_eq!(
        states(&disk, since(end)).len(),
        2,
        "as it is, and without the write"
    );
    let ahead = LogMark(end.0 + 1);
    assert!(matches!(
        disk.crash_states(since(ahead)),
        Err(DiskError::MarkAhead { mark: 2, last: 1 })
    ));
    assert!(matches!(
        disk.writes_since(ahead),
        Err(DiskError::MarkAhead { .. })
    ));

    // A copy records its own writes.
    let copy = disk.fork(&rig.scratch()).unwrap();
    assert!(matches!(
        copy.crash_states(since(start)),
        Err(DiskError::MarkLost { mark: 0 })
    ));
    assert!(copy.writes_since(start).unwrap().was_cut);
    assert!(!copy.writes_since(end).unwrap().was_cut);
    copy.crash_states(since(end)).unwrap();

    // One that replaces this disk has no place for a mark that was taken since, however much is written to it.
    copy.number_after(&disk);
    for at in 0..3 {
        copy.put(at, &sectors(1, 3));
    }
    disk.put(64, &sectors(8, 1));
    let later = disk.mark_log().unwrap();
    let replacement = copy.fork(&rig.scratch()).unwrap();
    replacement.number_after(&disk);
    for at in 0..3 {
        replacement.put(at, &sectors(1, 3));
    }
    assert!(replacement.writes_since(later).unwrap().was_cut);
    assert!(matches!(
        replacement.crash_states(since(later)),
        Err(DiskError::MarkLost { .. })
    ));
    let now = replacement.mark_log().unwrap();
    assert!(!replacement.writes_since(now).unwrap().was_cut);

    disk.set_log_limit(5000);
    for _ in 0..3 {
        disk.put(0, &sectors(8, 2));
        disk.flush().unwrap();
    }
    assert!(matches!(
        disk.crash_states(since(start)),
        Err(DiskError::MarkLost { .. })
    ));
    assert!(!states(&disk, ALL).is_empty(), "all that is recorded");
}

#[test]
fn a_disk_that_is_never_written_has_no_crash_states() {
    let rig = Rig::new();
    let disk = Disk::open(DiskSpec {
        read_only: true,
        ..rig.spec(4096, Base::Zeroes)
    })
    .unwrap();
    assert!(matches!(
        disk.crash_states(ALL),
        Err(DiskError::NeverWritten)
    ));
}

#[test]
fn a_state_is_a_disk_of_its_own() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.record_log(true).unwrap();
    disk.put(0, &sectors(8, 1));
    disk.put(8, &sectors(8, 2));
    let mut enumerated = disk.crash_states(ALL).unwrap();
    let first = enumerated.next().unwrap().unwrap();
    disk.put(0, &sectors(16, 7));
    first.disk.put(0, &sectors(8, 5));
    first.disk.flush().unwrap();
    let second = enumerated.next().unwrap().unwrap();
    drop(enumerated);
    assert_eq!(
        content(&first.disk)[..8192],
        [sectors(8, 5), sectors(8, 0)].concat()
    );
    assert_eq!(
        content(&second.disk)[..8192],
        [sectors(8, 1), sectors(8, 0)].concat()
    );
    assert_eq!(disk.read_sectors(0, 16).unwrap(), sectors(16, 7));
}

#[test]
fn writes_before_the_log_that_no_flush_covered_can_be_lost() {
    let rig = Rig::new();
    let path = rig.path("image");
    std::fs::write(&path, sectors(2, 0)).unwrap();
    let disk = Disk::open(rig.spec(4096, Base::InPlace(path))).unwrap();
    disk.put(0, &sectors(1, 1));
    let mark = disk.mark_log().unwrap();
    disk.put(1, &sectors(1, 2));
    disk.flush().unwrap();
    let states = states(
        &disk,
        CrashOptions {
            since: Some(mark),
            ..ALL
        },
    );
    let contents: BTreeSet<_> = states
        .iter()
        .map(|state| (content(&state.disk)[0], content(&state.disk)[512]))
        .collect();
    assert_eq!(contents, BTreeSet::from([(0, 0), (0, 2), (1, 0), (1, 2)]));
}

#[test]
fn many_writes_are_bounded_seeded_and_cheap() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(64 << 20);
    disk.put(0, &vec![3; 32 << 20]);
    disk.put(65536, &vec![4; 32 << 20]);
    disk.flush().unwrap();
    disk.record_log(true).unwrap();
    for number in 0..200u64 {
        disk.put(number * 611, &sectors(16, number as u8));
        if number % 40 == 39 {
            disk.flush().unwrap();
        }
    }
    let began = Instant::now();
    let some = |seed| {
        let options = CrashOptions {
            since: None,
            most: 1000,
            seed,
        };
        states(&disk, options)
            .into_iter()
            .map(|state| state.applied)
            .collect::<Vec<_>>()
    };
    let first = some(1);
    assert_eq!(first.len(), 1000);
    let rate = 1000.0 / began.elapsed().as_secs_f64();
    println!("{rate:.0} crash states a second");
    assert!(rate > 20.0, "{rate} states a second");
    assert_eq!(first, some(1));
    assert_ne!(first, some(2));
}
