//! Nothing is left of a service: neither threads nor descriptors. In an executable of its own, since it counts what the
//! process has.
#![expect(clippy::expect_used, reason = "tests")]

use camino::Utf8PathBuf;
use provium_disk::DiskService;
use provium_disk::{Admission, Command, Export, FlushPoint};
use provium_testkit::Leaks;
use rustix::io::Errno;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// All of its commands wait for an hour.
struct Slow;

impl Export for Slow {
    fn size(&self) -> u64 {
        1 << 20
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn admit(&self, command: Command) -> Admission {
        Admission {
            delay: Duration::from_secs(3600),
            ..Admission::normal(command)
        }
    }

    fn read(&self, _: &Admission, _: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn write(&self, _: &Admission, _: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn carry_out(&self, _: &Admission) -> Result<(), Errno> {
        Ok(())
    }

    fn prepare_flush(&self, _: Command) -> Result<FlushPoint, Errno> {
        Ok(FlushPoint::default())
    }

    fn complete_flush(&self, _: Command, _: Result<FlushPoint, Errno>) {}
}

fn greeted(socket: &Utf8PathBuf) -> UnixStream {
    let mut client = UnixStream::connect(socket).expect("it accepts");
    client.read_exact(&mut [0; 18]).expect("a greeting");
    client
}

#[test]
fn nothing_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("disk.sock");
    let socket = Utf8PathBuf::from_path_buf(path).expect("UTF-8");
    let before = Leaks::before();
    let service = DiskService::start(Arc::new(Slow), "disk", &socket).expect("a service");
    let idle = greeted(&socket);
    let mut busy = greeted(&socket);
    busy.write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\0")
        .expect("it reads");
    busy.read_exact(&mut [0; 10]).expect("the size");
    // A flush, which waits for its delay; then a read beyond the end, whose refusal says that the flush is waiting.
    busy.write_all(
        b"\x25\x60\x95\x13\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\
        \x25\x60\x95\x13\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\0\x10\0\0\0\0\0\x02\0",
    )
    .expect("it reads");
    busy.read_exact(&mut [0; 16]).expect("a refusal");
    // A client that has ended, and whose thread is still to be joined.
    let mut ended = greeted(&socket);
    ended.write_all(b"\xff\xff\xff\xff").expect("it reads");
    ended.read_to_end(&mut Vec::new()).expect("closed");
    let threads = before.since();
    let threads = threads.iter().filter(|line| line.starts_with("thread"));
    assert!(threads.count() >= 4, "accepting, two clients, and delays");
    drop(service);
    let mut rest = Vec::new();
    busy.read_to_end(&mut rest).expect("closed");
    assert_eq!(rest, b"");
    drop((idle, busy, ended));
    // A thread that has been joined is in /proc until the kernel has finished with it.
    let start = Instant::now();
    while !before.since().is_empty() && start.elapsed() < Duration::from_secs(10) {
        std::thread::yield_now();
    }
    before.assert_none();
    let entries = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(entries, 0);
}
