//! The agent driven by frames: directory trees.

use crate::host::{Heard, Host};
use provium_protocol::tree::{FileTime, Metadata, TreeDecoder, TreeRecord};
use provium_protocol::{ErrorKind, Frame, Lane, Op, Reply, StreamId};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

const LANE: Lane = Lane::VM;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("provium-tree-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        self.0.join(name).into_os_string().into_encoded_bytes()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn metadata(perm: u32) -> Metadata {
    Metadata {
        perm,
        mtime: FileTime {
            seconds: 1_000_000_000,
            nanoseconds: 7,
        },
    }
}

fn encoded(records: &[TreeRecord<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        record.encode(&mut bytes);
    }
    bytes
}

fn unpack(host: &mut Host, path: Vec<u8>, bytes: &[u8]) -> Heard {
    let call = host.request(LANE, &Op::UnpackTree { path });
    host.input(LANE, call, bytes);
    host.finish(call)
}

fn check(path: &Path, perm: u32) -> fs::Metadata {
    let found = fs::symlink_metadata(path).unwrap();
    assert_eq!(
        (found.mtime(), found.mtime_nsec()),
        (1_000_000_000, 7),
        "{path:?}"
    );
    if !found.is_symlink() {
        assert_eq!(found.permissions().mode() & 0o7777, perm, "{path:?}");
    }
    found
}

#[test]
fn a_tree_is_created_with_its_metadata_and_packed_again() {
    let mut host = Host::new();
    let folder = Folder::new("same");
    let records = [
        TreeRecord::Enter(c"dir"),
        TreeRecord::File {
            name: c"sparse",
            metadata: metadata(0o4640),
            size: 3 << 20,
        },
        TreeRecord::Data {
            offset: 1 << 20,
            bytes: b"middle",
        },
        TreeRecord::Leave(metadata(0o555)),
        TreeRecord::Symlink {
            name: c"link",
            target: c"dir/sparse",
            mtime: metadata(0).mtime,
        },
        TreeRecord::End(metadata(0o711)),
    ];
    let heard = unpack(&mut host, folder.bytes("new/tree"), &encoded(&records));
    assert_eq!(heard.reply, Some(Ok(Reply::Done)));
    let root = folder.0.join("new/tree");
    check(&root, 0o711);
    check(&root.join("dir"), 0o555);
    check(&root.join("link"), 0);
    let file = check(&root.join("dir/sparse"), 0o4640);
    assert_eq!(file.len(), 3 << 20);
    assert!(file.blocks() * 512 < 1 << 20, "{}", file.blocks());
    let mut middle = [0; 6];
    let open = fs::File::open(root.join("dir/sparse")).unwrap();
    open.read_exact_at(&mut middle, 1 << 20).unwrap();
    assert_eq!(&middle, b"middle");

    let call = host.request(
        LANE,
        &Op::PackTree {
            path: folder.bytes("new/tree"),
        },
    );
    let heard = host.finish(call);
    assert_eq!(
        heard.reply,
        Some(Ok(Reply::Count(heard.output.len() as u64)))
    );
    assert!(heard.ended);
    let mut decoder = TreeDecoder::new();
    decoder.push(&heard.output);
    let (mut data, mut kinds) = (0, Vec::new());
    while let Some(record) = decoder.next_record().unwrap() {
        match record {
            TreeRecord::Data { bytes, .. } => data += bytes.len(),
            other => kinds.push(format!("{other:?}")),
        }
    }
    assert!(decoder.is_complete());
    assert!((6..100_000).contains(&data), "{data}");
    let mut expected: Vec<String> = records
        .iter()
        .filter(|record| !matches!(record, TreeRecord::Data { .. }))
        .map(|record| format!("{record:?}"))
        .collect();
    kinds.sort();
    expected.sort();
    assert_eq!(kinds, expected);
    fs::set_permissions(root.join("dir"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_is_there_is_merged_or_replaced() {
    let mut host = Host::new();
    let folder = Folder::new("merge");
    fs::create_dir(folder.0.join("dir")).unwrap();
    fs::set_permissions(folder.0.join("dir"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(folder.0.join("dir/kept"), "kept").unwrap();
    fs::write(folder.0.join("target"), "target").unwrap();
    symlink("target", folder.0.join("name")).unwrap();
    let file = |name| TreeRecord::File {
        name,
        metadata: metadata(0o644),
        size: 0,
    };
    let records = [
        file(c"name"),
        TreeRecord::Enter(c"dir"),
        file(c"new"),
        TreeRecord::Leave(metadata(0o777)),
        TreeRecord::End(metadata(0o777)),
    ];
    let heard = unpack(&mut host, folder.bytes(""), &encoded(&records));
    assert_eq!(heard.reply, Some(Ok(Reply::Done)));
    check(&folder.0.join("name"), 0o644);
    assert_eq!(fs::read(folder.0.join("target")).unwrap(), b"target");
    assert_eq!(fs::read(folder.0.join("dir/kept")).unwrap(), b"kept");
    let dir = fs::metadata(folder.0.join("dir")).unwrap();
    assert_eq!(dir.permissions().mode() & 0o7777, 0o700);

    // A directory is not replaced by a file; the error says which.
    let records = [file(c"dir"), TreeRecord::End(metadata(0o777))];
    let heard = unpack(&mut host, folder.bytes(""), &encoded(&records));
    let error = heard.reply.unwrap().unwrap_err();
    assert_eq!((error.kind, error.errno), (ErrorKind::Os, libc::EISDIR));
    assert_eq!(error.message, "create `dir`");
}

#[test]
fn special_files_are_reported() {
    let mut host = Host::new();
    let folder = Folder::new("special");
    let _socket = UnixListener::bind(folder.0.join("socket")).unwrap();
    let path = folder.bytes("");
    let call = host.request(LANE, &Op::PackTree { path });
    let heard = host.finish(call);
    let mut decoder = TreeDecoder::new();
    decoder.push(&heard.output);
    let first = format!("{:?}", decoder.next_record().unwrap());
    assert_eq!(
        first,
        r#"Some(Skipped { name: "socket", entry_type: Socket })"#
    );
}

#[test]
fn a_tree_that_is_cut_off_fails() {
    let mut host = Host::new();
    let folder = Folder::new("cut");
    let bytes = encoded(&[TreeRecord::Enter(c"dir")]);
    let heard = unpack(&mut host, folder.bytes(""), &bytes);
    let error = heard.reply.unwrap().unwrap_err();
    assert_eq!(error.message, "the tree is incomplete");
    let heard = unpack(&mut host, folder.bytes(""), b"\0\0\0\x04\x01..\0");
    let error = heard.reply.unwrap().unwrap_err();
    assert_eq!(error.message, "a name in the tree is not a file name");
    // Input that nothing reads any more does not hold up its writer.
    let path = folder.bytes("missing");
    fs::write(folder.0.join("missing"), "a file").unwrap();
    let call = host.request(LANE, &Op::UnpackTree { path });
    host.send(&Frame::data(LANE, call, StreamId::Input, vec![0; 60_000]));
    assert_eq!(
        host.finish(call).reply.unwrap().unwrap_err().errno,
        libc::EEXIST
    );
}
