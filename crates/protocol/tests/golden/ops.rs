//! Requests.

use crate::golden;
use provium_protocol::op::{
    Address, Buffer, Condition, DiskConfig, DiskMount, Exec, HostEntry, InterfaceAddress, Link,
    NicConfig, NoticeKind, Program, ReadNicCounters, Route, SetDisks, SetIdentity, SetNetwork,
    SignalTarget, Stdin, StreamNotice, Syscall, TailStart, Whence, WindowSize, WorkerSpec,
};
use provium_protocol::{AgentOp, CallId, Descriptor, Lane, Op};

/// Fails to compile when a variant is added: it wants a line below.
fn every_op_is_here(op: &Op) {
    match op {
        Op::SpawnWorker(_)
        | Op::RetireWorker { .. }
        | Op::Batch { .. }
        | Op::Exec(_)
        | Op::Signal { .. }
        | Op::ResizeTerminal { .. }
        | Op::SignalAll { .. }
        | Op::Join
        | Op::ReadFile { .. }
        | Op::WriteFile { .. }
        | Op::Stat { .. }
        | Op::ListDir { .. }
        | Op::MakeDir { .. }
        | Op::Unlink { .. }
        | Op::Rename { .. }
        | Op::Chmod { .. }
        | Op::Symlink { .. }
        | Op::ReadLink { .. }
        | Op::Open { .. }
        | Op::ReadFd { .. }
        | Op::StreamFd { .. }
        | Op::WriteFd { .. }
        | Op::SeekFd { .. }
        | Op::CloseFd { .. }
        | Op::TailFile { .. }
        | Op::CheckFd { .. }
        | Op::TailFd { .. }
        | Op::Syscall(_)
        | Op::ReadMemory { .. }
        | Op::WriteMemory { .. }
        | Op::ClockGet
        | Op::ClockSet { .. }
        | Op::ClockAdvance { .. }
        | Op::ClockSleep { .. }
        | Op::WaitFor { .. }
        | Op::Connect { .. }
        | Op::PackTree { .. }
        | Op::UnpackTree { .. } => {}
    }
}

/// The same for the agent's own operations.
fn every_agent_op_is_here(op: &AgentOp) {
    match op {
        AgentOp::Stats
        | AgentOp::Quiesce
        | AgentOp::SetIdentity(_)
        | AgentOp::SetNetwork(_)
        | AgentOp::ReadNicCounters(_)
        | AgentOp::SetDisks(_) => {}
    }
}

fn path() -> Vec<u8> {
    b"/p\xff".to_vec()
}

#[test]
fn to_the_agent_itself_and_about_workers() {
    every_op_is_here(&Op::Join);
    every_agent_op_is_here(&AgentOp::Stats);
    golden! {
        Op::SpawnWorker(WorkerSpec {
            user: Some("daemon".to_owned()),
            cwd: Some(b"/tmp".to_vec().into()),
            env: vec![(b"A".to_vec().into(), b"1".to_vec().into())],
            namespaces: vec!["net".to_owned()],
        }) => b"\x81\xabSpawnWorker\x94\xa6daemon\xc4\x04/tmp\x91\x92\xc4\x01A\xc4\x011\x91\xa3net",
        Op::SpawnWorker(WorkerSpec::default()) => b"\x81\xabSpawnWorker\x94\xc0\xc0\x90\x90",
        Op::RetireWorker { lane: Lane::FIRST_WORKER } => b"\x81\xacRetireWorker\x91\x10",
        Op::Batch { ops: vec![Op::ClockGet, Op::Join] } =>
            b"\x81\xa5Batch\x91\x92\xa8ClockGet\xa4Join",
        AgentOp::Stats => b"\xa5Stats",
        AgentOp::Quiesce => b"\xa7Quiesce",
        AgentOp::SetIdentity(SetIdentity {
            realtime_ns: Some(-3),
            hostname: Some("web".to_owned()),
            entropy: vec![0, 0xff],
            fresh_hwrng: true,
        }) => b"\x81\xabSetIdentity\x94\xfd\xa3web\xc4\x02\x00\xff\xc3",
        AgentOp::SetIdentity(SetIdentity::default()) => b"\x81\xabSetIdentity\x94\xc0\xc0\xc4\x00\xc2",
    }
}

#[test]
fn networks() {
    golden! {
        AgentOp::SetNetwork(SetNetwork {
            nics: vec![NicConfig {
                device_mac: [0x52, 0x54, 0, 0x70, 0x76, 0],
                name: "eth0".to_owned(),
                mac: [2, 0, 0, 0, 0, 0xff],
                mtu: 1500,
                addresses: vec![InterfaceAddress {
                    address: [10, 0, 0, 2].into(),
                    prefix: 24,
                }],
                routes: vec![Route {
                    destination: InterfaceAddress {
                        address: [0; 16].into(),
                        prefix: 0,
                    },
                    gateway: [0xfd00, 0, 0, 0, 0, 0, 0, 1].into(),
                }],
                has_carrier: true,
            }],
            hosts: vec![HostEntry {
                address: [10, 0, 0, 3].into(),
                names: vec!["b.lan".to_owned(), "b".to_owned()],
            }],
        }) =>
            b"\x81\xaaSetNetwork\x92\x91\x97\x96RT\x00pv\x00\xa4eth0\x96\x02\x00\x00\x00\x00\xcc\xff\
              \xcd\x05\xdc\x91\x92\x81\xa2V4\x94\n\x00\x00\x02\x18\x91\x92\x92\x81\xa2V6\xdc\x00\x10\
              \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x81\xa2V6\xdc\x00\
              \x10\xcc\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xc3\x91\x92\x81\
              \xa2V4\x94\n\x00\x00\x03\x92\xa5b.lan\xa1b",
        AgentOp::SetNetwork(SetNetwork::default()) => b"\x81\xaaSetNetwork\x92\x90\x90",
        AgentOp::ReadNicCounters(ReadNicCounters { device_mac: [0x52, 0x54, 0, 0x70, 0x76, 1] }) =>
            b"\x81\xafReadNicCounters\x91\x96RT\x00pv\x01",
    }
}

#[test]
fn disks() {
    golden! {
        AgentOp::SetDisks(SetDisks {
            disks: vec![
                DiskConfig {
                    serial: "src".to_owned(),
                    size: 1 << 32,
                    read_only: true,
                    is_replaced: true,
                    may_have_partitions: true,
                    known_as: Some("old".to_owned()),
                    mount: Some(DiskMount {
                        path: "/src".to_owned(),
                        filesystem: "ext4".to_owned(),
                        read_only: true,
                    }),
                },
                DiskConfig {
                    serial: "data".to_owned(),
                    size: 512,
                    read_only: false,
                    is_replaced: false,
                    may_have_partitions: false,
                    known_as: None,
                    mount: None,
                },
            ],
        }) =>
            b"\x81\xa8SetDisks\x91\x92\x97\xa3src\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xc3\xc3\xc3\xa3old\x93\xa4/src\
              \xa4ext4\xc3\x97\xa4data\xcd\x02\x00\xc2\xc2\xc2\xc0\xc0",
        AgentOp::SetDisks(SetDisks::default()) => b"\x81\xa8SetDisks\x91\x90",
    }
}

#[test]
fn commands() {
    golden! {
        Op::Exec(Exec {
            program: Program::Shell(b"echo hi".to_vec().into()),
            env: Vec::new(),
            env_clear: false,
            cwd: None,
            user: None,
            tty: false,
            window: WindowSize::default(),
            stdin: Stdin::Null,
            background: false,
            collect: None,
        }) => b"\x81\xa4Exec\x9a\x81\xa5Shell\xc4\x07echo hi\x90\xc2\xc0\xc0\xc2\x92\x18P\xa4Null\xc2\xc0",
        Op::Exec(Exec {
            program: Program::Argv(vec![b"ls".to_vec().into(), b"-l".to_vec().into()]),
            env: vec![(b"A".to_vec().into(), b"\xff".to_vec().into())],
            env_clear: true,
            cwd: Some(b"/".to_vec().into()),
            user: Some("0".to_owned()),
            tty: true,
            window: WindowSize { rows: 50, columns: 300 },
            stdin: Stdin::Bytes(b"in".to_vec().into()),
            background: true,
            collect: Some(65_536),
        }) =>
            b"\x81\xa4Exec\x9a\x81\xa4Argv\x92\xc4\x02ls\xc4\x02-l\x91\x92\xc4\x01A\xc4\x01\
              \xff\xc3\xc4\x01/\xa10\xc3\x922\xcd\x01,\x81\xa5Bytes\xc4\x02in\xc3\xce\x00\x01\x00\x00",
        Stdin::Channel => b"\xa7Channel",
        Op::Signal { call: CallId(7), signal: 15, target: SignalTarget::Group } =>
            b"\x81\xa6Signal\x93\x07\x0f\xa5Group",
        Op::ResizeTerminal { call: CallId(7), window: WindowSize { rows: 50, columns: 100 } } =>
            b"\x81\xaeResizeTerminal\x92\x07\x922d",
        SignalTarget::Process => b"\xa7Process",
        SignalTarget::Tree => b"\xa4Tree",
        Op::SignalAll { signal: 9, everything: true } => b"\x81\xa9SignalAll\x92\t\xc3",
        Op::Join => b"\xa4Join",
    }
}

#[test]
fn files_by_path() {
    golden! {
        Op::ReadFile { path: path(), inline: true } => b"\x81\xa8ReadFile\x92\xc4\x03/p\xff\xc3",
        Op::WriteFile { path: path(), perm: Some(0o600), append: false, content: None } =>
            b"\x81\xa9WriteFile\x94\xc4\x03/p\xff\xcd\x01\x80\xc2\xc0",
        Op::WriteFile {
            path: path(),
            perm: None,
            append: true,
            content: Some(b"c".to_vec().into()),
        } => b"\x81\xa9WriteFile\x94\xc4\x03/p\xff\xc0\xc3\xc4\x01c",
        Op::Stat { path: path() } => b"\x81\xa4Stat\x91\xc4\x03/p\xff",
        Op::ListDir { path: path() } => b"\x81\xa7ListDir\x91\xc4\x03/p\xff",
        Op::MakeDir { path: path(), parents: true, perm: Some(0o755) } =>
            b"\x81\xa7MakeDir\x93\xc4\x03/p\xff\xc3\xcd\x01\xed",
        Op::Unlink { path: path() } => b"\x81\xa6Unlink\x91\xc4\x03/p\xff",
        Op::Rename { from: path(), to: b"/q".to_vec() } =>
            b"\x81\xa6Rename\x92\xc4\x03/p\xff\xc4\x02/q",
        Op::Chmod { path: path(), perm: 0o1777 } => b"\x81\xa5Chmod\x92\xc4\x03/p\xff\xcd\x03\xff",
        Op::Symlink { target: b"t".to_vec(), path: path() } =>
            b"\x81\xa7Symlink\x92\xc4\x01t\xc4\x03/p\xff",
        Op::ReadLink { path: path() } => b"\x81\xa8ReadLink\x91\xc4\x03/p\xff",
        Op::TailFile { path: path(), start: TailStart::Beginning } =>
            b"\x81\xa8TailFile\x92\xc4\x03/p\xff\xa9Beginning",
        TailStart::End => b"\xa3End",
        TailStart::At(300) => b"\x81\xa2At\xcd\x01,",
        TailStart::BeforeEnd(5) => b"\x81\xa9BeforeEnd\x05",
    }
}

const FD: Descriptor = Descriptor {
    number: 3,
    generation: 7,
};

#[test]
fn descriptors() {
    golden! {
        Op::Open { path: path(), flags: 0o101, perm: 0o644 } =>
            b"\x81\xa4Open\x93\xc4\x03/p\xffA\xcd\x01\xa4",
        Op::ReadFd { fd: FD, max: 1 << 20 } => b"\x81\xa6ReadFd\x92\x92\x03\x07\xce\x00\x10\x00\x00",
        Op::StreamFd { fd: FD, notices: true } => b"\x81\xa8StreamFd\x92\x92\x03\x07\xc3",
        Op::WriteFd { fd: FD } => b"\x81\xa7WriteFd\x91\x92\x03\x07",
        Op::SeekFd { fd: FD, offset: -1, whence: Whence::Set } =>
            b"\x81\xa6SeekFd\x93\x92\x03\x07\xff\xa3Set",
        Whence::Current => b"\xa7Current",
        Whence::End => b"\xa3End",
        Op::CloseFd { fd: (-1).into() } => b"\x81\xa7CloseFd\x91\x92\xff\x00",
        Op::CheckFd { fd: FD } => b"\x81\xa7CheckFd\x91\x92\x03\x07",
        Op::TailFd { fd: FD } => b"\x81\xa6TailFd\x91\x92\x03\x07",
    }
}

#[test]
fn stream_notices() {
    use NoticeKind::{Opened, Removed, Replaced, Rewritten, Truncated};
    let kinds = [Opened, Truncated, Rewritten, Replaced, Removed];
    for (number, kind) in (0..).zip(kinds) {
        let notice = StreamNotice { kind, at: 0x0102 };
        let bytes = [number, 2, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(notice.encode(), bytes);
        assert_eq!(StreamNotice::decode(bytes), Some(notice));
    }
    assert_eq!(StreamNotice::decode([5; StreamNotice::SIZE]), None);
}

#[test]
fn syscalls_and_memory() {
    golden! {
        Op::Syscall(Syscall {
            nr: 257,
            args: [-100, 0, i64::MAX, i64::MIN, 0, 5],
            buffers: vec![Buffer { content: b"/x\0".to_vec(), len: 16, align: 4096, returned: true }],
            pointers: vec![1, -1],
            nested: vec![Link { parent: 0, child: 1, offset: 8, child_offset: 2 }],
            background: true,
        }) =>
            b"\x81\xa7Syscall\x96\xcd\x01\x01\x96\xd0\x9c\x00\xcf\x7f\xff\xff\xff\xff\xff\xff\
              \xff\xd3\x80\x00\x00\x00\x00\x00\x00\x00\x00\x05\x91\x94\xc4\x03/x\x00\x10\xcd\
              \x10\x00\xc3\x92\x01\xff\x91\x94\x00\x01\x08\x02\xc3",
        Op::ReadMemory { address: 0xffff_8000_0000_0000, len: 8 } =>
            b"\x81\xaaReadMemory\x92\xcf\xff\xff\x80\x00\x00\x00\x00\x00\x08",
        Op::WriteMemory { address: 4096, data: b"\0".to_vec().into() } =>
            b"\x81\xabWriteMemory\x92\xcd\x10\x00\xc4\x01\x00",
    }
}

#[test]
fn servers_and_trees() {
    golden! {
        Op::WaitFor {
            condition: Condition::File(path().into()),
            interval_ns: 1,
            timeout_ns: 300,
        } => b"\x81\xa7WaitFor\x93\x81\xa4File\xc4\x03/p\xff\x01\xcd\x01,",
        Condition::Server(Address::Port(80)) => b"\x81\xa6Server\x81\xa4PortP",
        Condition::Process(b"sh".to_vec().into()) => b"\x81\xa7Process\xc4\x02sh",
        Op::Connect { address: Address::Unix(path().into()) } =>
            b"\x81\xa7Connect\x91\x81\xa4Unix\xc4\x03/p\xff",
        Op::PackTree { path: path() } => b"\x81\xa8PackTree\x91\xc4\x03/p\xff",
        Op::UnpackTree { path: path() } => b"\x81\xaaUnpackTree\x91\xc4\x03/p\xff",
    }
}

#[test]
fn clocks() {
    golden! {
        Op::ClockGet => b"\xa8ClockGet",
        Op::ClockSet { ns: 1_000_000_000 } => b"\x81\xa8ClockSet\x91\xce;\x9a\xca\x00",
        Op::ClockAdvance { ns: -1 } => b"\x81\xacClockAdvance\x91\xff",
        Op::ClockSleep { ns: 1 } => b"\x81\xaaClockSleep\x91\x01",
    }
}
