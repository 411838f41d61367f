//! Reads, writes, what is durable, and counts.

use crate::rig::{Guest, Rig, sectors};
use provium_disk::{CommandKind, DiskError, DiskStats, Keep, PowerCut, PowerLoss};
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, Ordering};

const LOSE_ALL: PowerCut = PowerCut {
    keep: Keep::None,
    seed: 1,
};

#[test]
fn the_tests_sectors_are_the_guests() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.put(3, &sectors(2, 1));
    disk.write_sectors(4, &sectors(1, 2)).unwrap();
    assert_eq!(
        disk.read_sectors(2, 4).unwrap(),
        [sectors(1, 0), sectors(1, 1), sectors(1, 2), sectors(1, 0)].concat()
    );
    assert_eq!(Guest::read(&disk, 4, 1).unwrap(), sectors(1, 2));
    assert!(matches!(
        disk.read_sectors(2047, 2),
        Err(DiskError::OutOfRange {
            first: 2047,
            last: 2048,
            sectors: 2048
        })
    ));
    assert!(matches!(
        disk.read_sectors(u64::MAX, 2),
        Err(DiskError::OutOfRange { .. })
    ));
    assert!(matches!(
        disk.write_sectors(0, &[0; 100]),
        Err(DiskError::NotSectors { length: 100 })
    ));
    disk.write_sectors(0, &[]).unwrap();
}

#[test]
fn commands_are_counted() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.put(0, &sectors(4, 1));
    disk.flush().unwrap();
    disk.put(0, &sectors(2, 1));
    disk.other(CommandKind::WriteZeroes, 8, 8).unwrap();
    disk.other(CommandKind::Discard, 16, 8).unwrap();
    Guest::read(&disk, 0, 3).unwrap();
    disk.read_sectors(0, 5).unwrap();
    disk.write_sectors(0, &sectors(1, 1)).unwrap();
    assert_eq!(
        disk.stats(),
        DiskStats {
            reads: 1,
            writes: 3,
            flushes: 1,
            discards: 1,
            read_bytes: 3 * 512,
            written_bytes: 14 * 512,
            unflushed_writes: 3,
            unflushed_bytes: 18 * 512,
            failed: 0,
        }
    );
    disk.flush().unwrap();
    assert_eq!(disk.stats().unflushed_writes, 0);
    assert_eq!(disk.stats().unflushed_bytes, 0);
}

#[test]
fn a_power_cut_loses_what_was_not_flushed_and_turns_the_disk_off() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.put(0, &sectors(3, 1));
    disk.flush().unwrap();
    disk.put(0, &sectors(1, 2));
    disk.write(1, &sectors(1, 3), true).unwrap();
    disk.write_sectors(2, &sectors(1, 4)).unwrap();
    disk.put(2, &sectors(1, 5));
    let loss = disk.power_cut(LOSE_ALL).unwrap();
    assert_eq!(
        loss,
        PowerLoss {
            dropped: 2,
            kept: 0,
            torn: 0
        }
    );
    assert!(!disk.is_on());
    let left = [sectors(1, 1), sectors(1, 3), sectors(1, 4)].concat();
    assert_eq!(disk.read_sectors(0, 3).unwrap(), left);
    assert_eq!(Guest::read(&disk, 0, 1), Err(Errno::IO));
    assert_eq!(disk.write(0, &sectors(1, 1), false), Err(Errno::IO));
    assert_eq!(disk.other(CommandKind::Discard, 0, 1), Err(Errno::IO));
    assert_eq!(disk.flush(), Err(Errno::IO));
    assert_eq!(disk.power_cut(LOSE_ALL).unwrap(), PowerLoss::default());
    disk.power_on();
    assert_eq!(Guest::read(&disk, 0, 3).unwrap(), left);
}

#[test]
fn the_cache_is_bounded_and_the_oldest_writes_leave_it_first() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.set_cache_limit(3 * 4096 + 3 * 1024);
    for block in 0..5u8 {
        disk.put(u64::from(block) * 8, &sectors(8, block + 1));
    }
    assert_eq!(disk.stats().unflushed_writes, 3);
    assert_eq!(disk.power_cut(LOSE_ALL).unwrap().dropped, 3);
    let firsts: Vec<_> = (0..5)
        .map(|block| disk.read_sectors(block * 8, 1).unwrap()[0])
        .collect();
    assert_eq!(firsts, [1, 2, 0, 0, 0]);
}

#[test]
fn space_of_overwritten_blocks_is_used_again() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    for round in 0..200u8 {
        disk.put(0, &sectors(256, round));
        disk.flush().unwrap();
    }
    let folder = rig.folder("saved");
    disk.save(&folder).unwrap();
    let length = std::fs::metadata(folder.join("layer-0")).unwrap().len();
    assert!(length <= 2 * 256 * 512, "{length} bytes for 128 KiB");
}

#[test]
fn threads_that_write_to_one_block_while_copies_are_made_lose_nothing() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(64 << 10);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4u64)
            .map(|thread| {
                let disk = &disk;
                scope.spawn(move || {
                    for round in 0..400u64 {
                        let first = thread * 2 + round % 8 * 16;
                        disk.put(first, &sectors(2, round as u8));
                        assert_eq!(
                            Guest::read(disk, first, 2).unwrap(),
                            sectors(2, round as u8)
                        );
                        if round % 50 == 0 {
                            disk.flush().unwrap();
                        }
                    }
                })
            })
            .collect();
        let copier = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                disk.fork(&rig.scratch()).unwrap();
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        copier.join().unwrap();
    });
    for block in 0..8u64 {
        assert_eq!(
            disk.read_sectors(block * 16, 8).unwrap(),
            sectors(8, (392 + block) as u8)
        );
    }
}
