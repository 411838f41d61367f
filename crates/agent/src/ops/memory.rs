//! Memory of the process that makes the lane's raw syscalls.

use crate::failure::{self, OpResult};
use crate::sys::memory;
use provium_protocol::Reply;

/// The most that is read at a time.
const LIMIT: u64 = 64 * 1024 * 1024;

pub(crate) fn read(raw: bool, address: u64, len: u64) -> OpResult {
    may(raw)?;
    if len > LIMIT {
        return Err(failure::invalid(format!(
            "at most {LIMIT} bytes of memory at a time"
        )));
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let bytes = memory::read_at(address, len)
        .map_err(|errno| failure::os(format!("read memory at {address:#x}"), errno))?;
    Ok(Reply::Bytes(bytes.into()))
}

pub(crate) fn write(raw: bool, address: u64, bytes: &[u8]) -> OpResult {
    may(raw)?;
    memory::write_at(address, bytes)
        .map_err(|errno| failure::os(format!("write memory at {address:#x}"), errno))?;
    Ok(Reply::Done)
}

fn may(raw: bool) -> Result<(), provium_protocol::WireError> {
    if raw {
        Ok(())
    } else {
        Err(failure::invalid("this lane makes no raw syscalls"))
    }
}
