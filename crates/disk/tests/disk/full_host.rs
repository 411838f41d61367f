//! A host without space.

use crate::rig::{Guest, Rig, sectors};
use camino::{Utf8Path, Utf8PathBuf};
use provium_disk::{Base, Disk, Keep, PowerCut};
use rustix::io::Errno;
use std::sync::{Arc, Mutex};

/// Tells a test that it runs with the limit; the image that it is to use, if it needs one.
const CHILD: &str = "PROVIUM_TEST_FULL_HOST";

/// Runs a test again with a limit on the size of files, which acts as a host that is full.
fn run_limited(test: &str, image: &Utf8Path) {
    let status = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("full_host::{test}")])
        .env(CHILD, image)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn a_full_host_is_enospc_to_the_guest_and_loses_nothing() {
    if std::env::var_os(CHILD).is_some() {
        fill();
        return;
    }
    let test = "a_full_host_is_enospc_to_the_guest_and_loses_nothing";
    run_limited(test, Utf8Path::new(""));
}

#[test]
fn a_flush_that_the_host_has_no_space_for_fails_and_loses_nothing_that_was_flushed() {
    if let Ok(image) = std::env::var(CHILD) {
        flush_beyond_the_limit(image.into());
        return;
    }
    let rig = Rig::new();
    let image = rig.path("image");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(8 << 20)
        .unwrap();
    let test = "a_flush_that_the_host_has_no_space_for_fails_and_loses_nothing_that_was_flushed";
    run_limited(test, &image);
    let disk = Disk::open(rig.spec(8 << 20, Base::InPlace(image))).unwrap();
    assert_eq!(disk.read_sectors(0, 8).unwrap(), sectors(8, 1));
    assert_eq!(
        disk.read_sectors(80, 8).unwrap(),
        sectors(8, 5),
        "a flush that was answered holds, though the host has no space for another one"
    );
}

fn flush_beyond_the_limit(image: Utf8PathBuf) {
    let rig = Rig::new();
    let disk = Disk::open(rig.spec(8 << 20, Base::InPlace(image))).unwrap();
    disk.put(0, &sectors(8, 1));
    disk.flush().unwrap();
    disk.put(10_000, &sectors(8, 2));
    disk.put(0, &sectors(8, 3));
    for _ in 0..2 {
        assert_eq!(disk.flush(), Err(Errno::NOSPC));
        assert_eq!(disk.stats().unflushed_writes, 2, "they are still volatile");
        assert_eq!(disk.read_sectors(10_000, 8).unwrap(), sectors(8, 2));
        assert_eq!(disk.read_sectors(0, 8).unwrap(), sectors(8, 3));
    }
    let failures = disk.host_failures().unwrap();
    assert_eq!(failures.count, 2);
    let first = "a flush: File too large (os error 27)";
    assert_eq!(failures.first.to_string(), first);
    let cut = PowerCut {
        keep: Keep::None,
        seed: 0,
    };
    disk.power_cut(cut).unwrap();
    assert_eq!(disk.read_sectors(0, 8).unwrap(), sectors(8, 1));
    assert_eq!(disk.read_sectors(10_000, 8).unwrap(), sectors(8, 0));
    disk.power_on();

    // The first write reaches the image before the second one fails.
    disk.put(0, &sectors(8, 4));
    disk.put(10_000, &sectors(8, 4));
    assert_eq!(disk.flush(), Err(Errno::NOSPC));
    disk.power_cut(cut).unwrap();
    disk.power_on();

    // A flush that QEMU waits for is answered before it is known to be the guest's.
    disk.put(80, &sectors(8, 5));
    let prepared = disk.prepare();
    assert!(prepared.is_ok());
    disk.put(10_000, &sectors(8, 6));
    assert_eq!(disk.prepare(), Err(Errno::NOSPC));
    assert_eq!(disk.host_failures().unwrap().count, 3, "it may be QEMU's");
    disk.complete(prepared);
    disk.complete(Err(Errno::NOSPC));
    assert_eq!(disk.host_failures().unwrap().count, 4);
    disk.power_cut(cut).unwrap();
}

fn fill() {
    let rig = Rig::new();
    let path = rig.path("image");
    std::fs::write(&path, sectors(16, 7)).unwrap();
    let bases = [Base::Zeroes, Base::Image(path.clone())];
    for base in bases {
        let disk = Disk::open(rig.spec(8 << 20, base)).unwrap();
        let observed = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&observed);
        disk.observe_host_failure(move |failure| seen.lock().unwrap().push(failure.to_string()));
        let mut written = 0;
        let error = loop {
            // Not aligned to blocks, so that the ends of writes need room as well.
            match disk.write(written * 60 + 1, &sectors(60, written as u8 + 1), false) {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error, Errno::NOSPC);
        assert!(written >= 16, "{written} writes of 30 KiB");
        disk.flush().unwrap();
        assert_eq!(disk.write(0, &sectors(256, 9), false), Err(Errno::NOSPC));
        let failures = disk.host_failures().unwrap();
        assert_eq!((failures.count, disk.stats().failed), (2, 2));
        let first = "a write: File too large (os error 27)";
        assert_eq!(failures.first.to_string(), first);
        assert_eq!(*observed.lock().unwrap(), [first], "once for each disk");
        for number in 0..written {
            let data = disk.read_sectors(number * 60 + 1, 60).unwrap();
            assert_eq!(data, sectors(60, number as u8 + 1));
        }
        disk.other(provium_disk::CommandKind::Discard, 0, 960)
            .unwrap();
        disk.flush().unwrap();
        disk.put(0, &sectors(256, 9));
        assert_eq!(
            disk.read_sectors(0, 256).unwrap(),
            sectors(256, 9),
            "a discard frees space"
        );
    }
}
