//! The agent driven by frames: files.

use crate::host::{Host, syscall};
use provium_protocol::message::EntryType;
use provium_protocol::op::{Buffer, NoticeKind, StreamNotice, Syscall, TailStart, Whence};
use provium_protocol::{Descriptor, ErrorKind, Lane, Op, Reply};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const LANE: Lane = Lane::VM;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("provium-agent-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> Vec<u8> {
        self.file(name).into_os_string().into_encoded_bytes()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn write(path: Vec<u8>, content: Option<&[u8]>) -> Op {
    Op::WriteFile {
        path,
        perm: None,
        append: false,
        content: content.map(|c| c.to_vec().into()),
    }
}

fn read(path: Vec<u8>) -> Op {
    Op::ReadFile {
        path,
        inline: false,
    }
}

#[test]
fn files_of_any_size_stream_both_ways() {
    let mut host = Host::new();
    let folder = Folder::new("stream");
    for size in [0, 1, 70_000, 5_000_000] {
        let bytes: Vec<u8> = (0..size).map(|at: u32| (at % 249) as u8).collect();
        let call = host.request(LANE, &write(folder.path("f"), None));
        host.input(LANE, call, &bytes);
        assert_eq!(
            host.finish(call).reply.unwrap(),
            Ok(Reply::Count(u64::from(size)))
        );
        let call = host.request(LANE, &read(folder.path("f")));
        let heard = host.finish(call);
        assert!(heard.output == bytes);
        assert_eq!(heard.reply.unwrap(), Ok(Reply::Count(u64::from(size))));
    }
}

#[test]
fn a_write_that_fails_is_answered_while_its_data_still_comes() {
    let mut host = Host::new();
    let call = host.request(LANE, &write(b"/nowhere/f".to_vec(), None));
    host.input(LANE, call, &vec![0; 1_000_000]);
    assert_eq!(
        host.finish(call).reply.unwrap().unwrap_err().errno,
        libc::ENOENT
    );
    assert_eq!(host.sh(LANE, "echo on").output, b"on\n");
}

#[test]
fn files_of_proc_have_no_size_and_are_read_whole() {
    let mut host = Host::new();
    let inline = Op::ReadFile {
        path: b"/proc/self/status".to_vec(),
        inline: true,
    };
    let Ok(Reply::Bytes(bytes)) = host.ask(LANE, &inline) else {
        panic!("no bytes")
    };
    assert!(bytes.starts_with(b"Name:\tprovium-raw"));
    let call = host.request(LANE, &read(b"/proc/cpuinfo".to_vec()));
    assert!(host.finish(call).output.len() > 100);
}

#[test]
fn a_fifo_delays_no_other_call_and_can_be_cancelled() {
    let mut host = Host::new();
    let folder = Folder::new("fifo");
    host.sh(LANE, &format!("mkfifo {}", folder.file("p").display()));
    let stuck = host.request(LANE, &read(folder.path("p")));
    assert_eq!(host.sh(LANE, "echo on").output, b"on\n");
    host.cancel(LANE, stuck);
    assert_eq!(
        host.finish(stuck).reply.unwrap().unwrap_err().kind,
        ErrorKind::Cancelled
    );
    let reader = host.request(LANE, &read(folder.path("p")));
    assert_eq!(
        host.ask(LANE, &write(folder.path("p"), Some(b"through"))),
        Ok(Reply::Count(7))
    );
    assert_eq!(host.finish(reader).output, b"through");
}

#[test]
fn folders_links_and_modes() {
    let mut host = Host::new();
    let folder = Folder::new("tree");
    let deep = folder.path("a/b/c");
    let made = |parents, perm| Op::MakeDir {
        path: deep.clone(),
        parents,
        perm,
    };
    assert_eq!(
        host.ask(LANE, &made(false, None)).unwrap_err().errno,
        libc::ENOENT
    );
    assert_eq!(host.ask(LANE, &made(true, Some(0o777))), Ok(Reply::Done));
    assert_eq!(host.ask(LANE, &made(true, None)), Ok(Reply::Done));
    assert_eq!(
        host.ask(LANE, &made(false, None)).unwrap_err().errno,
        libc::EEXIST
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&folder.file("a/b/c")), 0o777);
    let exact = Op::WriteFile {
        path: folder.path("f"),
        perm: Some(0o4777),
        append: false,
        content: Some(b"x".to_vec().into()),
    };
    assert_eq!(host.ask(LANE, &exact), Ok(Reply::Count(1)));
    assert_eq!(mode(&folder.file("f")), 0o4777);
    let link = Op::Symlink {
        target: b"f".to_vec(),
        path: folder.path("l"),
    };
    assert_eq!(host.ask(LANE, &link), Ok(Reply::Done));
    let target = host.ask(
        LANE,
        &Op::ReadLink {
            path: folder.path("l"),
        },
    );
    assert_eq!(target, Ok(Reply::Bytes(b"f".to_vec().into())));
    let Ok(Reply::Stat(stat)) = host.ask(
        LANE,
        &Op::Stat {
            path: folder.path("l"),
        },
    ) else {
        panic!("no stat")
    };
    assert_eq!(
        (stat.size, stat.perm, stat.entry_type),
        (1, 0o4777, EntryType::File)
    );
    let Ok(Reply::Entries(entries)) = host.ask(
        LANE,
        &Op::ListDir {
            path: folder.path(""),
        },
    ) else {
        panic!("no entries")
    };
    let names: Vec<_> = entries
        .iter()
        .map(|entry| (&entry.name[..], entry.entry_type))
        .collect();
    let expected: [(&[u8], _); 3] = [
        (b"a", EntryType::Dir),
        (b"f", EntryType::File),
        (b"l", EntryType::Symlink),
    ];
    assert_eq!(names, expected);
    let unlink = |name: &str| Op::Unlink {
        path: folder.path(name),
    };
    assert_eq!(
        host.ask(LANE, &unlink("a")).unwrap_err().errno,
        libc::ENOTEMPTY
    );
    assert_eq!(host.ask(LANE, &unlink("a/b/c")), Ok(Reply::Done));
    let renamed = Op::Rename {
        from: folder.path("f"),
        to: folder.path("g"),
    };
    assert_eq!(host.ask(LANE, &renamed), Ok(Reply::Done));
    let chmod = Op::Chmod {
        path: folder.path("g"),
        perm: 0o600,
    };
    assert_eq!(host.ask(LANE, &chmod), Ok(Reply::Done));
    assert_eq!(mode(&folder.file("g")), 0o600);
}

#[test]
fn an_open_file_is_read_written_and_moved_in() {
    let mut host = Host::new();
    let folder = Folder::new("open");
    let flags = libc::O_RDWR | libc::O_CREAT;
    let open = Op::Open {
        path: folder.path("f"),
        flags,
        perm: 0o600,
    };
    let Ok(Reply::Opened(fd)) = host.ask(Lane::VM, &open) else {
        panic!("not opened")
    };
    assert_eq!(fd.number, 3, "low numbers are for tests");
    let call = host.request(Lane::VM, &Op::WriteFd { fd });
    host.input(Lane::VM, call, b"hello");
    assert_eq!(host.finish(call).reply.unwrap(), Ok(Reply::Count(5)));
    let seek = Op::SeekFd {
        fd,
        offset: 1,
        whence: Whence::Set,
    };
    assert_eq!(host.ask(Lane::VM, &seek), Ok(Reply::Count(1)));
    let some = host.ask(Lane::VM, &Op::ReadFd { fd, max: 2 });
    assert_eq!(some, Ok(Reply::Bytes(b"el".to_vec().into())));
    let call = host.request(Lane::VM, &Op::StreamFd { fd, notices: false });
    assert_eq!(host.finish(call).output, b"lo");
    assert_eq!(host.ask(Lane::VM, &Op::CloseFd { fd }), Ok(Reply::Done));
    assert_eq!(
        host.ask(Lane::VM, &Op::CloseFd { fd }).unwrap_err().errno,
        libc::EBADF
    );
}

/// A command that replaces the bytes of a file in one write, so that it is never seen shorter.
fn rewrite(file: &Path, content: &str) -> String {
    format!(
        "printf {content} | dd of={} conv=notrunc status=none",
        file.display()
    )
}

/// The two ends of a pair of sockets.
fn socket_pair(host: &mut Host, kind: i32) -> (Descriptor, Descriptor) {
    let ends = Buffer {
        content: Vec::new(),
        len: 8,
        align: 16,
        returned: true,
    };
    let args = [libc::AF_UNIX.into(), kind.into(), 0, 0];
    let pair = Syscall {
        buffers: vec![ends],
        pointers: vec![3],
        ..syscall(libc::SYS_socketpair, &args)
    };
    let Ok(Reply::Syscall { buffers, .. }) = host.ask(LANE, &Op::Syscall(pair)) else {
        panic!("not the reply of a syscall");
    };
    let bytes = buffers[0].as_ref().unwrap();
    let (numbers, _) = bytes.as_chunks();
    let end = |index: usize| i32::from_ne_bytes(numbers[index]).into();
    (end(0), end(1))
}

/// A read that waits in the kernel for bytes holds up nothing else.
#[test]
fn a_stream_that_waits_for_a_socket_does_not_delay_other_calls() {
    let mut host = Host::new();
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
        let (read, write) = socket_pair(&mut host, kind);
        let notices = true;
        let stream = Op::StreamFd { fd: read, notices };
        let call = host.request(LANE, &stream);
        for round in 1..=3_usize {
            let written = host.request(LANE, &Op::WriteFd { fd: write });
            host.input(LANE, written, b"hello");
            assert_eq!(host.finish(written).reply.unwrap(), Ok(Reply::Count(5)));
            while host.calls[&call].output.len() < round * 5 {
                host.hear();
            }
        }
        host.cancel(LANE, call);
        host.finish(call);
    }
}

#[test]
fn a_tail_of_what_cannot_be_read_ends_before_it_is_open() {
    let mut host = Host::new();
    let folder = Folder::new("tail-errors");
    for (path, errno) in [
        (folder.path("missing"), libc::ENOENT),
        (folder.path(""), libc::EISDIR),
    ] {
        let start = TailStart::End;
        let call = host.request(LANE, &Op::TailFile { path, start });
        let heard = host.finish(call);
        assert_eq!(heard.reply.unwrap().unwrap_err().errno, errno);
        assert_eq!(heard.error, b"");
    }
    let fd = 9999.into();
    let notices = true;
    let call = host.request(LANE, &Op::StreamFd { fd, notices });
    let error = host.finish(call).reply.unwrap().unwrap_err();
    assert_eq!(error.errno, libc::EBADF);
}

#[test]
fn a_tail_follows_growth_cuts_and_replacement() {
    let mut host = Host::new();
    let folder = Folder::new("tail");
    fs::write(folder.file("f"), "old").unwrap();
    let tail = Op::TailFile {
        path: folder.path("f"),
        start: TailStart::BeforeEnd(1),
    };
    let call = host.request(LANE, &tail);
    let expect = |host: &mut Host, all: &[u8]| {
        while host.calls[&call].output.len() < all.len() {
            host.hear();
        }
        assert_eq!(host.calls[&call].output, all);
    };
    let notices = |host: &Host| -> Vec<(NoticeKind, u64)> {
        let (notices, rest) = host.calls[&call].error.as_chunks();
        assert_eq!(rest, []);
        let notices = notices
            .iter()
            .map(|bytes| StreamNotice::decode(*bytes).unwrap());
        notices.map(|notice| (notice.kind, notice.at)).collect()
    };
    expect(&mut host, b"d");
    assert_eq!(notices(&host), [(NoticeKind::Opened, 0)]);
    host.sh(
        LANE,
        &format!("printf +more >> {}", folder.file("f").display()),
    );
    expect(&mut host, b"d+more");
    // Each notice is there when the bytes that follow it are.
    fs::write(folder.file("f"), "x").unwrap();
    expect(&mut host, b"d+morex");
    assert_eq!(notices(&host)[1..], [(NoticeKind::Truncated, 6)]);
    // As long as before, and longer.
    host.sh(LANE, &rewrite(&folder.file("f"), "y"));
    expect(&mut host, b"d+morexy");
    assert_eq!(notices(&host)[2..], [(NoticeKind::Rewritten, 7)]);
    host.sh(LANE, &rewrite(&folder.file("f"), "longer"));
    expect(&mut host, b"d+morexylonger");
    assert_eq!(notices(&host)[3..], [(NoticeKind::Rewritten, 8)]);
    fs::write(folder.file("new"), "fresh").unwrap();
    fs::rename(folder.file("new"), folder.file("f")).unwrap();
    expect(&mut host, b"d+morexylongerfresh");
    assert_eq!(notices(&host)[4..], [(NoticeKind::Replaced, 14)]);
    fs::remove_file(folder.file("f")).unwrap();
    while notices(&host).len() < 6 {
        host.hear();
    }
    assert_eq!(notices(&host)[5..], [(NoticeKind::Removed, 19)]);
    host.cancel(LANE, call);
    assert_eq!(
        host.finish(call).reply.unwrap().unwrap_err().kind,
        ErrorKind::Cancelled
    );
}
