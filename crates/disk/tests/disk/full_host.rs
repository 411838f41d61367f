//! A host without space.

use crate::rig::{Guest, Rig, sectors};
use provium_disk::{Base, Disk};
use rustix::io::Errno;

const CHILD: &str = "PROVIUM_TEST_FULL_HOST";

/// Runs itself with a limit on the size of files, which acts as a host that is full.
#[test]
fn a_full_host_is_enospc_to_the_guest_and_loses_nothing() {
    if std::env::var_os(CHILD).is_some() {
        fill();
        return;
    }
    let status = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "full_host::a_full_host_is_enospc_to_the_guest_and_loses_nothing",
        ])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

fn fill() {
    let rig = Rig::new();
    let path = rig.path("image");
    std::fs::write(&path, sectors(16, 7)).unwrap();
    let bases = [Base::Zeroes, Base::Image(path.clone())];
    for base in bases {
        let disk = Disk::open(rig.spec(8 << 20, base)).unwrap();
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
