//! Flushes that are answered before it is known whether the guest has sent them.

use crate::rig::{Guest, Rig, sectors};
use camino::{Utf8Path, Utf8PathBuf};
use provium_disk::{Base, Disk, FaultMode, FaultRule, Keep, LogKind, PowerCut};
use rustix::io::Errno;

/// A raw image of 1 MiB with these bytes in its first 16 sectors.
fn image(rig: &Rig, byte: u8) -> Utf8PathBuf {
    let path = rig.path("image");
    let mut content = sectors(2048, 0);
    content[..16 * 512].fill(byte);
    std::fs::write(&path, content).unwrap();
    path
}

fn in_place(rig: &Rig, image: &Utf8Path, has_log: bool) -> Disk {
    let disk = Disk::open(rig.spec(1 << 20, Base::InPlace(image.to_owned()))).unwrap();
    disk.record_log(has_log).unwrap();
    disk
}

fn cut(disk: &Disk) {
    let keep = Keep::None;
    disk.power_cut(PowerCut { keep, seed: 1 }).unwrap();
}

#[test]
fn a_power_cut_loses_what_was_only_prepared() {
    for has_log in [true, false] {
        let rig = Rig::new();
        let path = image(&rig, 7);
        let disk = in_place(&rig, &path, has_log);
        disk.put(1, &sectors(2, 1));
        disk.flush().unwrap();
        disk.put(0, &sectors(2, 2));
        disk.put(20, &sectors(40, 3));
        disk.prepare().unwrap();
        assert_eq!(disk.stats().unflushed_writes, 2);
        assert_eq!(disk.stats().flushes, 1, "it is not the guest's yet");
        let fork = disk.fork(&rig.scratch()).unwrap();
        for disk in [&disk, &fork] {
            assert_eq!(disk.read_sectors(0, 4).unwrap()[..1024], sectors(2, 2));
            cut(disk);
            let expected = [sectors(1, 7), sectors(2, 1), sectors(13, 7), sectors(64, 0)].concat();
            assert_eq!(
                disk.read_sectors(0, 80).unwrap(),
                expected,
                "log: {has_log}"
            );
        }
        let expected = disk.read_sectors(0, 2048).unwrap();
        drop(disk);
        assert_eq!(std::fs::read(&path).unwrap(), expected, "log: {has_log}");
    }
}

#[test]
fn what_a_completed_flush_covers_is_durable_and_later_writes_are_not() {
    let rig = Rig::new();
    let path = image(&rig, 7);
    for disk in [in_place(&rig, &path, true), rig.scratch_disk(1 << 20)] {
        disk.record_log(true).unwrap();
        disk.put(0, &sectors(8, 1));
        let prepared = disk.prepare();
        disk.put(4, &sectors(8, 2));
        disk.write(100, &sectors(1, 3), true).unwrap();
        disk.complete(prepared);
        let stats = disk.stats();
        assert_eq!(
            (stats.flushes, stats.unflushed_writes, stats.unflushed_bytes),
            (1, 1, 4096)
        );
        let kinds: Vec<_> = (disk.writes().unwrap().entries.iter())
            .map(|entry| entry.kind)
            .collect();
        let write = |first, count| LogKind::Write { first, count };
        let expected = [write(0, 8), LogKind::Flush, write(4, 8), write(100, 1)];
        assert_eq!(kinds, expected);
        cut(&disk);
        assert_eq!(disk.read_sectors(0, 8).unwrap(), sectors(8, 1));
        assert_eq!(disk.read_sectors(100, 1).unwrap(), sectors(1, 3));
    }
    let content = std::fs::read(&path).unwrap();
    assert_eq!(content[..8 * 512], sectors(8, 1));
    assert_eq!(content[8 * 512..16 * 512], sectors(8, 7));
}

#[test]
fn a_fault_decides_about_a_prepared_flush_and_counts_only_that_of_the_guest() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.put(0, &sectors(8, 1));
    disk.inject(FaultRule::new(FaultMode::FailAfter(1)));
    let hits = || disk.faults()[0].2;
    let prepared = disk.prepare();
    assert_eq!(prepared, Err(Errno::IO));
    assert_eq!((hits(), disk.stats().failed), (0, 0));
    disk.complete(prepared);
    assert_eq!(
        (hits(), disk.stats().failed, disk.stats().flushes),
        (1, 1, 0)
    );
    assert_eq!(disk.host_failures(), None);
    disk.clear_faults();
    disk.inject(FaultRule::new(FaultMode::DropFlush));
    let prepared = disk.prepare();
    disk.complete(prepared);
    assert_eq!((hits(), disk.stats().flushes), (1, 1));
    assert_eq!(disk.stats().unflushed_writes, 1, "it made nothing durable");
}
