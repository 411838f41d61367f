//! What faults do to the guest's commands and to the data.

use crate::rig::{Guest, Rig, sectors};
use provium_disk::{FaultMode, FaultRule, Keep, PowerCut, SectorRange};
use rustix::io::Errno;

#[test]
fn a_fault_is_met_by_the_guest_and_not_by_the_test() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    let fault = disk.inject(FaultRule {
        sectors: Some(SectorRange { first: 8, last: 15 }),
        ..FaultRule::new(FaultMode::Eio)
    });
    disk.put(0, &sectors(8, 1));
    assert_eq!(disk.write(8, &sectors(8, 1), false), Err(Errno::IO));
    assert_eq!(Guest::read(&disk, 15, 2), Err(Errno::IO));
    disk.write_sectors(8, &sectors(8, 2)).unwrap();
    assert_eq!(disk.read_sectors(8, 8).unwrap(), sectors(8, 2));
    assert_eq!(disk.faults()[0].2, 2);
    assert_eq!(disk.stats().failed, 2);
    assert!(disk.remove(fault));
    assert_eq!(Guest::read(&disk, 8, 8).unwrap(), sectors(8, 2));
}

#[test]
fn a_failed_write_changes_nothing() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.put(0, &sectors(8, 1));
    disk.inject(FaultRule::new(FaultMode::Enospc));
    assert_eq!(disk.write(0, &sectors(8, 2), false), Err(Errno::NOSPC));
    assert_eq!(disk.host_failures(), None, "the fault has failed it");
    assert_eq!(disk.read_sectors(0, 8).unwrap(), sectors(8, 1));
    disk.clear_faults();
    disk.put(0, &sectors(8, 2));
}

#[test]
fn a_torn_write_succeeds_and_writes_its_first_sectors() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.inject(FaultRule::new(FaultMode::TornWrite));
    disk.put(4, &sectors(8, 1));
    let data = disk.read_sectors(4, 8).unwrap();
    let written = data.iter().filter(|&&byte| byte == 1).count();
    assert!((512..8 * 512).contains(&written) && written % 512 == 0);
    assert_eq!(data[written..], vec![0; 4096 - written]);
    assert_eq!(disk.stats().written_bytes, 4096);
}

#[test]
fn a_dropped_flush_makes_nothing_durable() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.inject(FaultRule {
        count: Some(2),
        ..FaultRule::new(FaultMode::DropFlush)
    });
    disk.put(0, &sectors(1, 1));
    disk.flush().unwrap();
    disk.write(1, &sectors(1, 1), true).unwrap();
    assert_eq!(disk.stats().unflushed_writes, 2);
    let cut = PowerCut {
        keep: Keep::None,
        seed: 1,
    };
    assert_eq!(disk.power_cut(cut).unwrap().dropped, 2);
    assert_eq!(disk.read_sectors(0, 2).unwrap(), sectors(2, 0));
    disk.power_on();
    disk.put(0, &sectors(1, 1));
    disk.flush().unwrap();
    assert_eq!(disk.power_cut(cut).unwrap().dropped, 0);
}

#[test]
fn corruption_of_reads_is_not_stored_and_that_of_writes_is() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.put(0, &sectors(8, 1));
    let only = Some(SectorRange { first: 2, last: 2 });
    disk.inject(FaultRule {
        sectors: only,
        count: Some(2),
        ..FaultRule::new(FaultMode::Corrupt)
    });
    let read = Guest::read(&disk, 0, 8).unwrap();
    assert_ne!(read[1024..1536], sectors(1, 1));
    assert_eq!(
        (&read[..1024], &read[1536..]),
        (&*sectors(2, 1), &*sectors(5, 1))
    );
    assert_eq!(disk.read_sectors(0, 8).unwrap(), sectors(8, 1));
    disk.put(0, &sectors(8, 3));
    let stored = disk.read_sectors(0, 8).unwrap();
    assert_ne!(stored[1024..1536], sectors(1, 3));
    assert_eq!(
        (&stored[..1024], &stored[1536..]),
        (&*sectors(2, 3), &*sectors(5, 3))
    );
    assert_eq!(
        Guest::read(&disk, 0, 8).unwrap(),
        stored,
        "the rule acts twice at most"
    );
}

#[test]
fn copies_have_the_faults() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.inject(FaultRule::new(FaultMode::EioRead));
    let fork = disk.fork(&rig.scratch()).unwrap();
    disk.clear_faults();
    assert_eq!(Guest::read(&fork, 0, 1), Err(Errno::IO));
    Guest::read(&disk, 0, 1).unwrap();
}
