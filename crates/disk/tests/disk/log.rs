//! The log.

use crate::rig::{Guest, Rig, sectors};
use provium_disk::{
    Base, CommandKind, Disk, DiskError, Keep, LogEntry, LogKind, LogMark, PowerCut,
};

#[test]
fn the_log_has_what_completed_in_order() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    assert!(matches!(disk.writes(), Err(DiskError::NoLog)));
    disk.put(0, &sectors(1, 1));
    disk.record_log(true).unwrap();
    disk.put(2, &sectors(3, 2));
    disk.flush().unwrap();
    let mark = disk.mark_log().unwrap();
    disk.write(5, &sectors(1, 3), true).unwrap();
    disk.other(CommandKind::WriteZeroes, 1, 9).unwrap();
    disk.other(CommandKind::Discard, 16, 8).unwrap();
    disk.put(2, &sectors(1, 4));
    disk.power_cut(PowerCut {
        keep: Keep::None,
        seed: 1,
    })
    .unwrap();
    let log = disk.writes().unwrap();
    assert!(!log.was_cut);
    let entry = |sequence, kind, fua| LogEntry {
        sequence,
        kind,
        fua,
        lost: false,
    };
    let lost = |sequence, kind| LogEntry {
        lost: true,
        ..entry(sequence, kind, false)
    };
    assert_eq!(
        log.entries,
        [
            entry(2, LogKind::Write { first: 2, count: 3 }, false),
            entry(3, LogKind::Flush, false),
            entry(4, LogKind::Write { first: 5, count: 1 }, true),
            lost(5, LogKind::Zeroes { first: 1, count: 9 }),
            lost(
                6,
                LogKind::Discard {
                    first: 16,
                    count: 8
                }
            ),
            lost(7, LogKind::Write { first: 2, count: 1 }),
            entry(8, LogKind::PowerCut, false),
        ]
    );
    assert_eq!(disk.writes_since(mark).unwrap().entries, log.entries[2..]);
}

#[test]
fn the_log_has_both_parts_of_a_torn_write() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.record_log(true).unwrap();
    disk.put(0, &sectors(1, 1));
    disk.put(10, &sectors(8, 2));
    let loss = disk.power_cut(PowerCut {
        keep: Keep::Torn,
        seed: 1,
    });
    let loss = loss.unwrap();
    assert_eq!((loss.kept, loss.torn), (1, 1));
    let log = disk.writes().unwrap();
    let described: Vec<_> = (log.entries.iter())
        .map(|entry| (entry.sequence, entry.kind, entry.lost))
        .collect();
    let [
        whole,
        (2, LogKind::Write { first, count }, false),
        rest,
        cut,
    ] = described[..]
    else {
        panic!("{described:?}");
    };
    assert_eq!(whole, (1, LogKind::Write { first: 0, count: 1 }, false));
    assert_eq!(first, 10);
    let kind = LogKind::Write {
        first: 10 + count,
        count: 8 - count,
    };
    assert_eq!(rest, (2, kind, true));
    assert_eq!(cut, (3, LogKind::PowerCut, false));
    assert_eq!(
        disk.writes_since(LogMark(2)).unwrap().entries,
        log.entries[3..]
    );
}

#[test]
fn a_disk_goes_back_to_a_mark() {
    let rig = Rig::new();
    let image = rig.path("image");
    std::fs::write(&image, sectors(64, 7)).unwrap();
    let bases = [
        Base::Zeroes,
        Base::Image(image.clone()),
        Base::InPlace(image.clone()),
    ];
    for base in bases {
        let disk = Disk::open(rig.spec(64 * 512, base.clone())).unwrap();
        disk.record_log(true).unwrap();
        disk.put(1, &sectors(2, 1));
        disk.flush().unwrap();
        disk.put(2, &sectors(2, 2));
        let before = disk.read_sectors(0, 64).unwrap();
        let mark = disk.mark_log().unwrap();
        for is_flushed in [true, false] {
            disk.put(0, &sectors(20, 3));
            disk.other(CommandKind::Discard, 8, 16).unwrap();
            if is_flushed {
                disk.flush().unwrap();
            }
            disk.write(3, &sectors(1, 4), true).unwrap();
            disk.put(2, &sectors(1, 5));
            disk.roll_back(mark).unwrap();
            assert_eq!(disk.read_sectors(0, 64).unwrap(), before, "{base:?}");
            assert_eq!(disk.writes_since(mark).unwrap().entries, []);
        }
        assert_eq!(disk.stats().unflushed_writes, 0, "the guest had flushed it");
        disk.put(40, &sectors(1, 6));
        let keep = Keep::None;
        disk.power_cut(PowerCut { keep, seed: 1 }).unwrap();
        assert_eq!(disk.read_sectors(0, 64).unwrap(), before, "{base:?}");
        drop(disk);
        if matches!(base, Base::InPlace(_)) {
            assert_eq!(std::fs::read(&image).unwrap(), before);
        }
    }
}

#[test]
fn what_was_volatile_at_the_mark_is_volatile_again() {
    let rig = Rig::new();
    let image = rig.path("image");
    std::fs::write(&image, sectors(64, 7)).unwrap();
    let disk = Disk::open(rig.spec(64 * 512, Base::InPlace(image.clone()))).unwrap();
    disk.record_log(true).unwrap();
    disk.put(0, &sectors(2, 1));
    let mark = disk.mark_log().unwrap();
    disk.write(1, &sectors(2, 2), true).unwrap();
    disk.roll_back(mark).unwrap();
    assert_eq!(disk.stats().unflushed_writes, 1);
    assert_eq!(disk.read_sectors(0, 2).unwrap(), sectors(2, 1));
    let keep = Keep::None;
    disk.power_cut(PowerCut { keep, seed: 1 }).unwrap();
    drop(disk);
    assert_eq!(std::fs::read(&image).unwrap(), sectors(64, 7));
}

#[test]
fn a_full_log_drops_its_oldest_entries_and_says_so() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.record_log(true).unwrap();
    disk.set_log_limit(20 * 5000);
    for round in 0..100u8 {
        disk.put(0, &sectors(8, round));
        disk.flush().unwrap();
    }
    let log = disk.writes().unwrap();
    assert!(log.was_cut);
    assert!(
        (30..50).contains(&log.entries.len()),
        "{}",
        log.entries.len()
    );
    assert_eq!(log.entries.last().unwrap().kind, LogKind::Flush);
    let mark = disk.mark_log().unwrap();
    disk.put(0, &sectors(8, 1));
    let since = disk.writes_since(mark).unwrap();
    assert!(!since.was_cut, "what is asked for is complete");
    assert_eq!(since.entries.len(), 1);
    disk.record_log(false).unwrap();
    assert!(matches!(disk.writes(), Err(DiskError::NoLog)));
    assert_eq!(disk.read_sectors(0, 8).unwrap(), sectors(8, 1));
}

#[test]
fn a_log_of_an_image_in_place_can_begin_over_writes_that_are_not_durable() {
    let rig = Rig::new();
    let path = rig.path("image");
    std::fs::write(&path, sectors(16, 0)).unwrap();
    let disk = Disk::open(rig.spec(16 * 512, Base::InPlace(path.clone()))).unwrap();
    // Their records become shorter when the log keeps what was below them.
    disk.other(CommandKind::Discard, 0, 9).unwrap();
    disk.other(CommandKind::Discard, 4, 9).unwrap();
    disk.record_log(true).unwrap();
    disk.put(0, &sectors(16, 1));
    disk.flush().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), sectors(16, 1));
    disk.record_log(false).unwrap();
    assert_eq!(disk.read_sectors(0, 16).unwrap(), sectors(16, 1));
}
