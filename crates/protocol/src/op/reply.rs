//! Which replies have which type.

use super::descriptor::Descriptor;
use super::disk::DiskNode;
use super::network::NicCounters;
use super::request::FromReply;
use crate::message::{
    DirEntry, FileStat, GuestStats, JoinSummary, Reply, SpawnedWorker, SyscallResult, WaitResult,
    WireError,
};
use serde_bytes::ByteBuf;

macro_rules! from_reply {
    ($($type:ty: $reply:pat => $value:expr;)*) => { $(
        impl FromReply for $type {
            fn from_reply(reply: Reply) -> Option<Self> {
                match reply {
                    $reply => Some($value),
                    _ => None,
                }
            }
        }
    )* };
}

from_reply! {
    (): Reply::Done => ();
    u64: Reply::Count(count) => count;
    i64: Reply::Clock(ns) => ns;
    Vec<u8>: Reply::Bytes(bytes) => bytes.into_vec();
    FileStat: Reply::Stat(stat) => stat;
    Vec<DirEntry>: Reply::Entries(entries) => entries;
    Descriptor: Reply::Opened(descriptor) => descriptor;
    GuestStats: Reply::Stats(stats) => stats;
    NicCounters: Reply::NicCounters(counters) => counters;
    Vec<DiskNode>: Reply::Disks(nodes) => nodes;
    WaitResult: Reply::Waited(result) => result;
    SpawnedWorker: Reply::Worker { lane, pid } => SpawnedWorker { lane, pid };
    JoinSummary: Reply::Joined { exit_code, children } => JoinSummary { exit_code, children };
    Vec<Result<Reply, WireError>>: Reply::Batch(results) => results;
    SyscallResult: Reply::Syscall { ret, errno, buffers } => SyscallResult {
        ret,
        errno,
        buffers: buffers
            .into_iter()
            .map(|buffer| buffer.map(ByteBuf::into_vec))
            .collect(),
    };
}
