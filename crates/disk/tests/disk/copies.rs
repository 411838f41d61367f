//! Copies: forks, saved disks, exports.

use crate::rig::{Guest, Rig, sectors};
use provium_disk::{
    Base, CommandKind, Disk, DiskError, FaultMode, FaultRule, Keep, PowerCut, SavedDisk,
};
use std::os::unix::fs::MetadataExt;

const LOSE_ALL: PowerCut = PowerCut {
    keep: Keep::None,
    seed: 1,
};

#[test]
fn a_fork_is_independent() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.put(0, &sectors(16, 1));
    disk.flush().unwrap();
    disk.put(0, &sectors(4, 2));
    let fork = disk.fork(&rig.scratch()).unwrap();
    disk.put(0, &sectors(1, 3));
    fork.put(8, &sectors(1, 4));
    let first = |disk: &Disk, sector| disk.read_sectors(sector, 1).unwrap()[0];
    assert_eq!(
        (first(&disk, 0), first(&disk, 1), first(&disk, 8)),
        (3, 2, 1)
    );
    assert_eq!(
        (first(&fork, 0), first(&fork, 1), first(&fork, 8)),
        (2, 2, 4)
    );
    assert_eq!(
        fork.power_cut(LOSE_ALL).unwrap().dropped,
        2,
        "what was volatile still is"
    );
    assert_eq!((first(&fork, 0), first(&fork, 8)), (1, 1));
    drop(disk);
    assert_eq!(first(&fork, 15), 1);
}

#[test]
fn a_saved_disk_comes_back_with_what_was_volatile_and_its_faults() {
    let rig = Rig::new();
    let path = rig.path("image");
    std::fs::write(&path, sectors(20, 7)).unwrap();
    let disk = Disk::open(rig.spec(61 * 512, Base::Image(path))).unwrap();
    disk.put(0, &sectors(10, 1));
    disk.flush().unwrap();
    disk.put(3, &sectors(2, 2));
    disk.other(CommandKind::Discard, 12, 8).unwrap();
    disk.inject(FaultRule::new(FaultMode::EioRead));
    let folder = rig.folder("saved");
    let saved = disk.save(&folder).unwrap();
    let content = disk.read_sectors(0, 61).unwrap();
    disk.put(0, &sectors(61, 9));
    let json = serde_json::to_string(&saved).unwrap();
    let saved: SavedDisk = serde_json::from_str(&json).unwrap();
    for round in 0..2 {
        let restored = Disk::restore(&saved, &folder, &rig.scratch(), 3).unwrap();
        assert_eq!(
            restored.read_sectors(0, 61).unwrap(),
            content,
            "round {round}"
        );
        assert_eq!(Guest::read(&restored, 0, 1), Err(rustix::io::Errno::IO));
        assert_eq!(restored.stats().unflushed_writes, 2);
        restored.put(60, &sectors(1, 8));
        assert_eq!(restored.power_cut(LOSE_ALL).unwrap().dropped, 3);
        let mut durable = [sectors(10, 1), sectors(10, 7), sectors(41, 0)].concat();
        assert_eq!(restored.read_sectors(0, 61).unwrap(), durable);
        durable.clear();
    }
}

#[test]
fn layers_are_linked_and_few() {
    let rig = Rig::new();
    let mut disk = rig.scratch_disk(1 << 20);
    for round in 0..30u8 {
        disk.put(u64::from(round) * 4, &sectors(8, round + 1));
        let folder = rig.folder(&format!("saved-{round}"));
        let saved = disk.save(&folder).unwrap();
        let files = std::fs::read_dir(&folder).unwrap().count();
        assert!(files <= 10, "{files} files");
        let layer = std::fs::metadata(folder.join("layer-0")).unwrap();
        assert_eq!(
            layer.nlink(),
            u64::from(round) + 1,
            "the first layer is shared"
        );
        disk = Disk::restore(&saved, &folder, &rig.scratch(), 1).unwrap();
    }
    for round in 0..30u8 {
        assert_eq!(
            disk.read_sectors(u64::from(round) * 4, 4).unwrap(),
            sectors(4, round + 1)
        );
    }
    assert_eq!(disk.power_cut(LOSE_ALL).unwrap().dropped, 30);
    assert_eq!(disk.read_sectors(0, 2048).unwrap(), sectors(2048, 0));
}

#[test]
fn a_copy_of_a_disk_that_is_written_in_place_has_its_own_image() {
    let rig = Rig::new();
    let path = rig.path("image");
    std::fs::write(&path, sectors(16, 7)).unwrap();
    let disk = Disk::open(rig.spec(16 * 512, Base::InPlace(path))).unwrap();
    disk.put(0, &sectors(1, 1));
    disk.flush().unwrap();
    disk.put(1, &sectors(1, 2));
    let folder = rig.folder("saved");
    let saved = disk.save(&folder).unwrap();
    let fork = disk.fork(&rig.scratch()).unwrap();
    disk.put(0, &sectors(16, 9));
    disk.flush().unwrap();
    let restored = Disk::restore(&saved, &folder, &rig.scratch(), 1).unwrap();
    let again = rig.folder("again");
    let saved_again = restored.save(&again).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let twice = Disk::restore(&saved_again, &again, &rig.scratch(), 1).unwrap();
    for copy in [fork, restored, twice] {
        let content = [sectors(1, 1), sectors(1, 2), sectors(14, 7)].concat();
        assert_eq!(copy.read_sectors(0, 16).unwrap(), content);
        copy.power_cut(LOSE_ALL).unwrap();
        assert_eq!(copy.read_sectors(1, 1).unwrap(), sectors(1, 7));
    }
}

#[test]
fn an_export_is_the_content_without_the_holes() {
    let rig = Rig::new();
    let path = rig.path("image");
    std::fs::write(&path, sectors(32, 7)).unwrap();
    let disk = Disk::open(rig.spec((1 << 30) + 512, Base::Image(path))).unwrap();
    disk.put(30, &sectors(4, 1));
    disk.other(CommandKind::WriteZeroes, 0, 24).unwrap();
    disk.put(1 << 21, &sectors(1, 5));
    let path = rig.path("exported");
    let image = disk.export(&path).unwrap();
    let folder = path.parent().unwrap();
    let named = || std::fs::read_dir(folder).unwrap().count();
    let before = named();
    assert!(!path.exists(), "it is not complete before it is linked");
    image.link().unwrap();
    assert_eq!(named(), before + 1);
    assert!(matches!(image.link(), Err(DiskError::Exists { .. })));
    let data = std::fs::metadata(&path).unwrap();
    assert_eq!(data.len(), (1 << 30) + 512);
    assert!(data.blocks() < 200);
    let copy = Disk::open(rig.spec(data.len(), Base::Image(path.clone()))).unwrap();
    for (first, count) in [(0, 40), (1 << 21, 1)] {
        assert_eq!(
            copy.read_sectors(first, count).unwrap(),
            disk.read_sectors(first, count).unwrap()
        );
    }
    assert!(
        matches!(disk.export(&path), Err(DiskError::Exists { .. })),
        "it exists"
    );
    let absent = rig.path("absent/exported");
    assert!(matches!(
        disk.export(&absent),
        Err(DiskError::Export { .. })
    ));
}

#[test]
fn a_damaged_saved_disk_is_refused() {
    let rig = Rig::new();
    let image = rig.path("image");
    std::fs::write(&image, sectors(16, 7)).unwrap();
    let disk = Disk::open(rig.spec(16 * 512, Base::Image(image.clone()))).unwrap();
    disk.put(0, &sectors(16, 1));
    let folder = rig.folder("saved");
    let saved = serde_json::to_value(disk.save(&folder).unwrap()).unwrap();
    let restore = |saved: &serde_json::Value| {
        let saved: SavedDisk = serde_json::from_value(saved.clone()).unwrap();
        Disk::restore(&saved, &folder, &rig.scratch(), 1).map(|_| ())
    };
    restore(&saved).unwrap();
    for (key, value) in [
        ("version", 2),
        ("size", 0),
        ("size", 513),
        ("layers", 1000),
        ("layers", 0),
        ("layers", 2),
    ] {
        let mut changed = saved.clone();
        changed[key] = value.into();
        assert!(
            matches!(restore(&changed), Err(DiskError::Damaged { .. })),
            "{key} {value}"
        );
    }
    let layer = std::fs::File::options()
        .write(true)
        .open(folder.join("layer-0"))
        .unwrap();
    layer.set_len(4096).unwrap();
    assert!(
        matches!(restore(&saved), Err(DiskError::Damaged { .. })),
        "short layer"
    );
    layer.set_len(8192).unwrap();
    restore(&saved).unwrap();
    let map = folder.join("map");
    let whole = std::fs::read(&map).unwrap();
    // It may be a link to a file of another disk.
    std::fs::remove_file(&map).unwrap();
    std::fs::write(&map, b"PVDMAP01").unwrap();
    assert!(
        matches!(restore(&saved), Err(DiskError::Damaged { .. })),
        "short map"
    );
    std::fs::write(&map, whole).unwrap();
    restore(&saved).unwrap();
    std::fs::write(&image, sectors(15, 7)).unwrap();
    let error = restore(&saved).unwrap_err().to_string();
    assert!(error.contains("has changed since it was saved"), "{error}");
    std::fs::remove_file(&image).unwrap();
    let error = restore(&saved).unwrap_err();
    assert!(matches!(error, DiskError::Damaged { .. }), "{error}");
    assert!(
        error.to_string().contains("does not exist any more"),
        "{error}"
    );
}
