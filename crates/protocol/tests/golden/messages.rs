//! Replies, errors, events, asks and answers.

use crate::golden;
use provium_protocol::message::{
    DirEntry, EntryType, Exit, FileStat, GuestStats, ModuleFile, WaitResult,
};
use provium_protocol::op::{DiskNode, NicCounters};
use provium_protocol::{
    Descriptor, ErrorKind, Event, GuestRequest, HostReply, Lane, Reply, WireError,
};

/// Fails to compile when a variant is added: it wants a line below.
fn every_reply_is_here(reply: &Reply) {
    match reply {
        Reply::Done
        | Reply::Bytes(_)
        | Reply::Count(_)
        | Reply::Exited(_)
        | Reply::Ran { .. }
        | Reply::Stat(_)
        | Reply::Entries(_)
        | Reply::Opened(_)
        | Reply::Syscall { .. }
        | Reply::Worker { .. }
        | Reply::Joined { .. }
        | Reply::Batch(_)
        | Reply::Clock(_)
        | Reply::Stats(_)
        | Reply::Waited(_)
        | Reply::NicCounters(_)
        | Reply::Disks(_) => {}
    }
}

fn exit(code: Option<i32>, signal: Option<i32>) -> Exit {
    Exit {
        code,
        signal,
        duration_ns: 1000,
    }
}

#[test]
fn replies() {
    every_reply_is_here(&Reply::Done);
    golden! {
        Reply::Done => b"\xa4Done",
        Reply::Bytes(b"\0\xff".to_vec().into()) => b"\x81\xa5Bytes\xc4\x02\x00\xff",
        Reply::Count(u64::MAX) => b"\x81\xa5Count\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        Reply::Exited(exit(Some(3), None)) => b"\x81\xa6Exited\x93\x03\xc0\xcd\x03\xe8",
        Reply::Exited(exit(None, Some(9))) => b"\x81\xa6Exited\x93\xc0\t\xcd\x03\xe8",
        Reply::Ran {
            exit: exit(Some(0), None),
            stdout: b"out".to_vec().into(),
            stderr: b"".to_vec().into(),
            stdout_dropped: 300,
            stderr_dropped: 0,
        } => b"\x81\xa3Ran\x95\x93\x00\xc0\xcd\x03\xe8\xc4\x03out\xc4\x00\xcd\x01,\x00",
        Reply::Stat(FileStat {
            size: 1,
            mtime: -2,
            mtime_ns: 3,
            perm: 0o4755,
            entry_type: EntryType::File,
            uid: 4,
            gid: 5,
            ino: 6,
            nlink: 7,
        }) => b"\x81\xa4Stat\x99\x01\xfe\x03\xcd\t\xed\xa4File\x04\x05\x06\x07",
        Reply::Opened(Descriptor { number: 3, generation: 7 }) => b"\x81\xa6Opened\x92\x03\x07",
        Reply::Syscall {
            ret: -1,
            errno: 9,
            buffers: vec![None, Some(b"b".to_vec().into())],
        } => b"\x81\xa7Syscall\x93\xff\t\x92\xc0\xc4\x01b",
        Reply::Worker { lane: Lane(16), pid: 300 } => b"\x81\xa6Worker\x92\x10\xcd\x01,",
        Reply::Joined { exit_code: 137, children: 2 } => b"\x81\xa6Joined\x92\xcc\x89\x02",
        Reply::Batch(vec![Ok(Reply::Done), Err(WireError {
            kind: ErrorKind::Os,
            errno: 2,
            message: "open".to_owned(),
        })]) => b"\x81\xa5Batch\x92\x81\xa2Ok\xa4Done\x81\xa3Err\x93\xa2Os\x02\xa4open",
        Reply::Clock(-1) => b"\x81\xa5Clock\xff",
        Reply::Stats(GuestStats {
            uptime_ns: 1,
            memory_total: 2,
            memory_available: 3,
            processes: 4,
        }) => b"\x81\xa5Stats\x94\x01\x02\x03\x04",
        Reply::Waited(WaitResult::Server) => b"\x81\xa6Waited\xa6Server",
        Reply::NicCounters(NicCounters {
            rx_bytes: 1,
            tx_bytes: 300,
            rx_packets: 3,
            tx_packets: 4,
            errors: 5,
            dropped: 6,
        }) => b"\x81\xabNicCounters\x96\x01\xcd\x01,\x03\x04\x05\x06",
        Reply::Disks(vec![DiskNode { serial: "src".to_owned(), name: "vda".to_owned() }]) =>
            b"\x81\xa5Disks\x91\x92\xa3src\xa3vda",
        WaitResult::Processes(vec![1, 300]) => b"\x81\xa9Processes\x92\x01\xcd\x01,",
        WaitResult::TimedOut { errno: 2 } => b"\x81\xa8TimedOut\x91\x02",
    }
}

#[test]
fn entries() {
    let entry = |entry_type| DirEntry {
        name: b"\xfe".to_vec(),
        entry_type,
    };
    golden! {
        Reply::Entries(vec![entry(EntryType::File), entry(EntryType::Dir)]) =>
            b"\x81\xa7Entries\x92\x92\xc4\x01\xfe\xa4File\x92\xc4\x01\xfe\xa3Dir",
        EntryType::Symlink => b"\xa7Symlink",
        EntryType::Fifo => b"\xa4Fifo",
        EntryType::Socket => b"\xa6Socket",
        EntryType::CharDevice => b"\xaaCharDevice",
        EntryType::BlockDevice => b"\xabBlockDevice",
        EntryType::Unknown => b"\xa7Unknown",
    }
}

#[test]
fn errors() {
    golden! {
        // As the payload of a reply frame has it.
        Err::<Reply, WireError>(WireError {
            kind: ErrorKind::LaneDied,
            errno: 0,
            message: "killed by signal 9".to_owned(),
        }) => b"\x81\xa3Err\x93\xa8LaneDied\x00\xb2killed by signal 9",
        Ok::<Reply, WireError>(Reply::Done) => b"\x81\xa2Ok\xa4Done",
        ErrorKind::Cancelled => b"\xa9Cancelled",
        ErrorKind::NoSuchLane => b"\xaaNoSuchLane",
        ErrorKind::Invalid => b"\xa7Invalid",
        ErrorKind::StaleDescriptor => b"\xafStaleDescriptor",
        ErrorKind::TooLarge => b"\xa8TooLarge",
    }
}

#[test]
fn events() {
    golden! {
        Event::Started { pid: 70_000 } => b"\x81\xa7Started\x91\xce\x00\x01\x11p",
        Event::Entered { tid: 1 } => b"\x81\xa7Entered\x91\x01",
        Event::Waiting => b"\xa7Waiting",
        Event::Connected => b"\xa9Connected",
    }
}

#[test]
fn asks_and_answers() {
    golden! {
        GuestRequest::Module { name: "fs-ext4".to_owned() } => b"\x81\xa6Module\x91\xa7fs-ext4",
        HostReply::Modules(Vec::new()) => b"\x81\xa7Modules\x90",
        HostReply::Modules(vec![ModuleFile {
            name: "ext4".to_owned(),
            object: b"\x7fELF".to_vec().into(),
        }]) => b"\x81\xa7Modules\x91\x92\xa4ext4\xc4\x04\x7fELF",
    }
}
