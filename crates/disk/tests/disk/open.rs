//! What a disk can be made of.

use crate::rig::{Guest, Rig, sectors};
use provium_disk::{Base, Disk, DiskError, DiskSpec, image_size};
use std::os::unix::fs::MetadataExt;

#[test]
fn an_image_is_padded_with_zeroes_and_never_written() {
    let rig = Rig::new();
    let path = rig.path("image");
    std::fs::write(&path, [7; 700]).unwrap();
    assert_eq!(image_size(&path).unwrap(), 1024);
    let disk = Disk::open(rig.spec(4096, Base::Image(path.clone()))).unwrap();
    let mut expected = vec![7; 700];
    expected.resize(4096, 0);
    assert_eq!(Guest::read(&disk, 0, 8).unwrap(), expected);
    disk.put(1, &sectors(1, 9));
    disk.flush().unwrap();
    expected[512..1024].fill(9);
    assert_eq!(disk.read_sectors(0, 8).unwrap(), expected);
    assert_eq!(std::fs::read(&path).unwrap(), [7; 700]);
    let other = Disk::open(rig.spec(1024, Base::Image(path))).unwrap();
    assert_eq!(
        other.read_sectors(1, 1).unwrap()[0],
        7,
        "another disk on the same image"
    );
}

#[test]
fn an_image_that_is_written_to_under_its_copies_is_noticed() {
    let rig = Rig::new();
    let (path, other) = (rig.path("image"), rig.path("other"));
    std::fs::write(&path, sectors(4, 7)).unwrap();
    let disk = Disk::open(rig.spec(2048, Base::Image(path.clone()))).unwrap();
    disk.put(1, &sectors(1, 9));
    disk.check_image().unwrap();
    // Another file in its place is not read by this disk.
    std::fs::write(&other, sectors(4, 8)).unwrap();
    std::fs::rename(&path, rig.path("moved")).unwrap();
    std::fs::rename(&other, &path).unwrap();
    disk.check_image().unwrap();
    std::fs::write(rig.path("moved"), sectors(3, 8)).unwrap();
    let is_changed =
        |error: &DiskError| matches!(error, DiskError::ImageChanged { path: it } if *it == path);
    assert!(is_changed(&disk.check_image().unwrap_err()));
    let folder = rig.path("saved");
    std::fs::create_dir(&folder).unwrap();
    assert!(is_changed(&disk.save(&folder).unwrap_err()));
    let written = Disk::open(rig.spec(2048, Base::InPlace(path.clone()))).unwrap();
    std::fs::write(&path, sectors(4, 8)).unwrap();
    written.check_image().unwrap();
}

#[test]
fn an_image_that_is_written_in_place_has_what_is_durable() {
    let rig = Rig::new();
    let path = rig.path("image");
    std::fs::write(&path, [7; 700]).unwrap();
    let disk = Disk::open(rig.spec(2048, Base::InPlace(path.clone()))).unwrap();
    disk.put(0, &sectors(1, 1));
    disk.write(3, &sectors(1, 2), true).unwrap();
    let mut image = std::fs::read(&path).unwrap();
    assert_eq!(
        (image[0], image[3 * 512]),
        (7, 2),
        "a write with FUA is there, the other is not"
    );
    disk.flush().unwrap();
    image[..512].fill(1);
    assert_eq!(std::fs::read(&path).unwrap(), image);
    disk.put(1, &sectors(1, 3));
    drop(disk);
    assert_eq!(
        std::fs::read(&path).unwrap()[512],
        3,
        "the end of a disk loses nothing"
    );
}

#[test]
fn an_image_in_use_is_refused() {
    let rig = Rig::new();
    let path = rig.path("image");
    std::fs::write(&path, sectors(4, 1)).unwrap();
    let in_place = rig.spec(2048, Base::InPlace(path.clone()));
    let shared = rig.spec(2048, Base::Image(path.clone()));
    let reader = Disk::open(DiskSpec {
        read_only: true,
        ..in_place.clone()
    })
    .unwrap();
    let second = Disk::open(shared.clone()).unwrap();
    assert!(matches!(
        Disk::open(in_place.clone()),
        Err(DiskError::InUse { .. })
    ));
    drop((reader, second));
    let writer = Disk::open(in_place.clone()).unwrap();
    assert!(matches!(
        Disk::open(in_place.clone()),
        Err(DiskError::InUse { .. })
    ));
    assert!(matches!(Disk::open(shared), Err(DiskError::InUse { .. })));
    drop(writer);
    Disk::open(in_place).unwrap();
}

#[test]
fn what_cannot_be_a_disk_is_refused() {
    let rig = Rig::new();
    let open = |size, base| Disk::open(rig.spec(size, base)).map(|_| ()).unwrap_err();
    for size in [0, 511, 4097, (1 << 62) + 512, u64::MAX - 511] {
        assert!(matches!(open(size, Base::Zeroes), DiskError::Size { .. }));
    }
    assert!(matches!(
        open(512, Base::Image(rig.path("missing"))),
        DiskError::Open { .. }
    ));
    assert!(matches!(
        open(512, Base::InPlace(rig.scratch())),
        DiskError::Open { .. }
    ));
    let fifo = rig.path("fifo");
    let (kind, mode) = (rustix::fs::FileType::Fifo, 0o600.into());
    rustix::fs::mknodat(rustix::fs::CWD, fifo.as_std_path(), kind, mode, 0).unwrap();
    for path in [fifo, "/dev/zero".into(), "/dev/null".into()] {
        for base in [Base::Image(path.clone()), Base::InPlace(path.clone())] {
            assert!(matches!(open(512, base), DiskError::NotAnImage { .. }));
        }
        assert!(matches!(
            image_size(&path),
            Err(DiskError::NotAnImage { .. })
        ));
    }
    let path = rig.path("image");
    std::fs::write(&path, sectors(3, 1)).unwrap();
    assert!(matches!(
        open(1024, Base::Image(path)),
        DiskError::ImageTooLarge {
            image: 1536,
            size: 1024,
            ..
        }
    ));
    let path = rig.path("qcow2");
    std::fs::write(&path, b"QFI\xfb\0\0\0\x03").unwrap();
    assert_eq!(
        open(512, Base::Image(path.clone())).to_string(),
        format!(
            "the disk image `{path}` is in the format qcow2; convert it with `qemu-img convert -O raw`"
        )
    );
}

#[test]
fn a_large_empty_disk_costs_nothing() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 42);
    disk.put((1 << 33) - 8, &sectors(8, 5));
    assert_eq!(disk.read_sectors((1 << 33) - 1, 1).unwrap(), sectors(1, 5));
    disk.other(provium_disk::CommandKind::Discard, 0, 1 << 33)
        .unwrap();
    assert_eq!(disk.read_sectors((1 << 33) - 1, 1).unwrap(), sectors(1, 0));
    disk.put(0, &sectors(1, 5));
    let path = rig.path("exported");
    disk.export(&path).unwrap().link().unwrap();
    let exported = std::fs::metadata(&path).unwrap();
    assert_eq!(exported.len(), 1 << 42);
    assert!(exported.blocks() <= 64);
}

#[test]
fn a_read_only_disk_refuses_writes_of_guest_and_test() {
    let rig = Rig::new();
    let disk = Disk::open(DiskSpec {
        read_only: true,
        ..rig.spec(4096, Base::Zeroes)
    })
    .unwrap();
    let refused = Err(rustix::io::Errno::PERM);
    assert_eq!(disk.write(0, &sectors(1, 1), false), refused);
    assert_eq!(
        disk.other(provium_disk::CommandKind::Discard, 0, 1),
        refused
    );
    assert!(matches!(
        disk.write_sectors(0, &sectors(1, 1)),
        Err(DiskError::ReadOnly)
    ));
    disk.flush().unwrap();
    assert_eq!(disk.stats().failed, 2);
}

#[test]
fn the_overlay_has_no_name() {
    let rig = Rig::new();
    let disk = rig.scratch_disk(1 << 20);
    disk.put(0, &sectors(1, 1));
    assert_eq!(rig.names(), 0);
}
