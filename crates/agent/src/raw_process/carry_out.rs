//! The main function of an operation process: carries out one operation with the state of a raw process,
//! stores the result in its slot, and exits (or becomes the command).

use super::operation::{Operation, OperationResult};
use super::reserved_slot::ReservedSlot;
use super::{connect, launch, paths, tail, transfer, tree, wait};
use crate::failure;
use crate::sys::{fd, process, signal};
use provium_protocol::{Op, codec};
use std::os::fd::RawFd;
use std::time::Duration;

/// Carries out the op of a payload. For a process that was forked for it.
/// `raw_process` is the id of the raw process, as it sees itself.
pub(super) fn run(slot: ReservedSlot, raw_process: i32, payload: &[u8]) -> ! {
    if !slot.begin() {
        process::exit(0);
    }
    process::new_session();
    name_after(slot);
    let operation = Operation::new(slot, raw_process);
    let finished = match codec::decode::<Op>(payload) {
        Ok(Op::Exec(exec)) => launch::run(&operation, exec).into(),
        Ok(op) => {
            signal::block_all();
            // A copy of a pipe's end would keep the pipe from ending.
            close_all_but(op.descriptor().map(|fd| fd.number));
            carry_out(&operation, op)
        }
        Err(_) => failure::invalid("the operation cannot be read").into(),
    };
    operation.finish(finished)
}

fn close_all_but(kept: Option<RawFd>) {
    match kept.filter(|kept| *kept >= 0) {
        None => fd::close_range(0, i32::MAX),
        Some(kept) => {
            if kept > 0 {
                fd::close_range(0, kept - 1);
            }
            fd::close_range(kept.saturating_add(1), i32::MAX);
        }
    }
}

/// A name by which the executor can find this process if it does not know its id.
fn name_after(slot: ReservedSlot) {
    if let Ok(name) = std::ffi::CString::new(name_of(slot.area.index, slot.index)) {
        process::name_thread(&name);
    }
}

/// The name of the operation process of a slot.
pub(crate) fn name_of(area: usize, slot: usize) -> String {
    format!("pv-op-{area}.{slot}")
}

fn carry_out(operation: &Operation, op: Op) -> OperationResult {
    match op {
        Op::ReadFile { path, inline } => transfer::read_file(operation, &path, inline),
        Op::WriteFile {
            path,
            perm,
            append,
            content,
        } => {
            let mode = paths::Mode { perm, append };
            transfer::write_file(operation, &path, mode, content).into()
        }
        Op::Stat { path } => paths::stat(&operation.resolve(&path)).into(),
        Op::ListDir { path } => paths::list(&operation.resolve(&path)).into(),
        Op::MakeDir {
            path,
            parents,
            perm,
        } => paths::make_dir(&path, parents, perm).into(),
        Op::Unlink { path } => paths::unlink(&path).into(),
        Op::Rename { from, to } => paths::rename(&from, &to).into(),
        Op::Chmod { path, perm } => paths::chmod(&operation.resolve(&path), perm).into(),
        Op::Symlink { target, path } => paths::symlink(&target, &path).into(),
        Op::ReadLink { path } => paths::read_link(&operation.resolve(&path)).into(),
        Op::ReadFd { fd, max } => transfer::read(fd.number, max).into(),
        Op::StreamFd { fd, notices } => transfer::stream(operation, fd.number, notices).into(),
        Op::WriteFd { fd } => transfer::write(operation, fd.number).into(),
        Op::SeekFd { fd, offset, whence } => transfer::seek(fd.number, offset, whence).into(),
        Op::TailFile { path, start } => {
            tail::follow_path(operation, operation.resolve(&path), start).into()
        }
        Op::TailFd { fd } => tail::follow_descriptor(operation, fd.number).into(),
        Op::WaitFor {
            condition,
            interval_ns,
            timeout_ns,
        } => {
            let [interval, timeout] = [interval_ns, timeout_ns].map(Duration::from_nanos);
            wait::run(operation, &condition, interval, timeout).into()
        }
        Op::Connect { address } => connect::run(operation, &address).into(),
        Op::PackTree { path } => tree::pack(operation, &path).into(),
        Op::UnpackTree { path } => tree::unpack(operation, &path).into(),
        // The executor and the raw process itself carry these out, and `launch` runs commands.
        Op::Exec(_)
        | Op::Signal { .. }
        | Op::SignalAll { .. }
        | Op::ResizeTerminal { .. }
        | Op::Join
        | Op::SpawnWorker(_)
        | Op::RetireWorker { .. }
        | Op::Batch { .. }
        | Op::Open { .. }
        | Op::CloseFd { .. }
        | Op::CheckFd { .. }
        | Op::Syscall(_)
        | Op::ReadMemory { .. }
        | Op::WriteMemory { .. }
        | Op::ClockGet
        | Op::ClockSet { .. }
        | Op::ClockAdvance { .. }
        | Op::ClockSleep { .. } => failure::invalid("not of an operation process").into(),
    }
}
