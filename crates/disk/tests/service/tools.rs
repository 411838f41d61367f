//! The clients of QEMU and libnbd. `scripts/install-missing test` installs them.

use crate::memory::{Memory, Served};
use camino::Utf8Path;
use rustix::io::Errno;
use std::io::ErrorKind;
use std::process::Command;

const SIZE: usize = 16 << 20;

/// Whether the program succeeds, and what it prints; `None` if it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            let bytes = [output.stdout, output.stderr].concat();
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            Some((output.status.success(), shown))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("{program} is not installed: skipped");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// What a program prints that succeeds; `None` if it is not installed.
fn check(program: &str, arguments: &[&str]) -> Option<String> {
    let (success, shown) = run(program, arguments)?;
    assert!(success, "{program} {arguments:?}: {shown}");
    Some(shown)
}

/// A file with data and zeroes, and its content.
fn image(folder: &Utf8Path) -> (String, Vec<u8>) {
    let path = folder.join("image").into_string();
    let mut content = provium_testkit::random_bytes(1, SIZE);
    content[1 << 20..8 << 20].fill(0);
    std::fs::write(&path, &content).expect("space");
    (path, content)
}

#[test]
fn nbdinfo_shows_the_disk() {
    let served = Served::new(Memory::new(SIZE));
    let Some(shown) = check("nbdinfo", &[&served.uri()]) else {
        return;
    };
    for line in [
        "protocol: newstyle-fixed without TLS, using structured packets",
        "export=\"disk\":",
        "export-size: 16777216 (16M)",
        "can_fua: true",
        "can_trim: true",
        "can_zero: true",
        "can_multi_conn: true",
        "is_read_only: false",
        "block_size_minimum: 512",
        "block_size_maximum: 33554432",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let listed = check("nbdinfo", &["--list", &served.uri()]).expect("it is installed");
    assert!(listed.contains("export=\"disk\":"), "{listed}");
}

#[test]
fn nbdcopy_copies_both_ways() {
    let served = Served::new(Memory::new(SIZE));
    let folder = served.socket.parent().expect("a folder");
    let (path, content) = image(folder);
    if check("nbdcopy", &["--flush", &path, &served.uri()]).is_none() {
        return;
    }
    assert!(served.disk.content() == content);
    let back = folder.join("back").into_string();
    std::fs::File::create(&back).expect("a file");
    check("nbdcopy", &[&served.uri(), &back]);
    assert!(std::fs::read(&back).expect("a file") == content);
}

#[test]
fn qemu_img_converts_and_compares() {
    let served = Served::new(Memory::new(SIZE));
    let (path, content) = image(served.socket.parent().expect("a folder"));
    let uri = served.uri();
    let convert = ["convert", "-n", "-f", "raw", "-O", "raw", &path, &uri];
    if check("qemu-img", &convert).is_none() {
        return;
    }
    assert!(served.disk.content() == content);
    let compare = ["compare", "-f", "raw", "-F", "raw", &path, &uri];
    let shown = check("qemu-img", &compare).expect("it is installed");
    assert!(shown.contains("Images are identical"), "{shown}");
}

#[test]
fn qemu_io_writes_reads_and_sees_errors() {
    let served = Served::new(Memory::new(SIZE));
    let uri = served.uri();
    let mut arguments = vec!["-f", "raw"];
    for command in [
        "write -P 0xab 4k 1M",
        "write -f -P 0xcd 2M 64k",
        "write -z 8k 4k",
        "discard 16k 4k",
        "aio_write -P 1 4M 2M",
        "aio_write -P 2 6M 2M",
        "aio_flush",
        "flush",
        "read -P 0xab 4k 4k",
        "read -P 0 8k 4k",
        "read -P 0xcd 2M 64k",
        "read -P 1 4M 2M",
        "read -P 2 6M 2M",
    ] {
        arguments.extend(["-c", command]);
    }
    arguments.push(&uri);
    let Some(shown) = check("qemu-io", &arguments) else {
        return;
    };
    assert!(!shown.contains("failed"), "{shown}");
    assert!(served.disk.content()[6 << 20..8 << 20] == vec![2; 2 << 20]);
    assert!(served.disk.done().iter().any(|command| command.fua));
    served.disk.fail(Some(Errno::NOSPC));
    let arguments = ["-f", "raw", "-c", "write 0 4k", &uri];
    let (_, shown) = run("qemu-io", &arguments).expect("it is installed");
    assert!(shown.contains("No space left on device"), "{shown}");
    let arguments = ["-f", "raw", "-c", "read 0 4k", &uri];
    served.disk.fail(Some(Errno::IO));
    let (_, shown) = run("qemu-io", &arguments).expect("it is installed");
    assert!(shown.contains("Input/output error"), "{shown}");
}
