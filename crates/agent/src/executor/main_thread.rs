//! The main thread: one job after the other, with the identity of the process.

use super::call::Call;
use super::exec::{self, Surroundings};
use super::io_loop::IoLoop;
use super::job::{Job, Outcome, Work};
use super::root::Root;
use super::shared::Shared;
use super::threads::{self, Threads};
use super::{tail, worker};
use crate::failure;
use crate::ops::{clock, descriptors, files, syscall};
use crate::roots;
use crate::sys::{fd, process, signal};
use provium_protocol::{Lane, Op};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// 1 while the main thread lives; cleared by the kernel.
static MAIN_LIVES: AtomicU32 = AtomicU32::new(0);

/// What an executor starts with.
#[derive(Debug)]
pub(crate) struct Inheritance {
    pub(crate) root: Root,
    pub(crate) around: Surroundings,
}

/// Puts the socket to the router where an executor has it. For a process that was just forked.
pub(crate) fn adopt_socket(socket: OwnedFd) {
    if fd::copy_to(socket.as_raw_fd(), roots::SOCKET).is_err() {
        process::exit(1);
    }
    // It is closed along with everything else that was the parent's.
    std::mem::forget(socket);
}

/// Becomes the executor of a lane, in a process that was forked for it and has its socket.
pub(crate) fn run(lane: Lane, Inheritance { root, around }: Inheritance) -> ! {
    fd::close_range(roots::FIRST_FREE, i32::MAX);
    process::name_thread(c"provium-exec");
    signal::install_interrupt();
    let Ok(shared) = Shared::new(lane).map(Arc::new) else {
        process::exit(1)
    };
    if lane == Lane::COMMANDS {
        // No test code runs here, so there is nobody who could mean a signal to this process.
        signal::block_all_but_interrupt();
    } else {
        signal::unblock_all();
    }
    let io = IoLoop::new(Arc::clone(&shared));
    if threads::detached(c"provium-io", || io.run()).is_err() {
        process::exit(1);
    }
    if shared.raw {
        watch_main_thread();
    }
    let mut main = MainThread {
        shared,
        root,
        around,
        threads: Threads::default(),
        memory: None,
    };
    loop {
        let job = main.shared.next_job();
        main.run(job);
    }
}

/// A seccomp filter may kill this thread alone; then the process must end, too.
fn watch_main_thread() {
    MAIN_LIVES.store(1, Ordering::Release);
    process::announce_thread_end(&MAIN_LIVES);
    // Without the watch a killed main thread is noticed when its calls are cancelled.
    let _ = threads::detached(c"provium-watch", || {
        signal::block_all_but_interrupt();
        process::await_change(&MAIN_LIVES, 1);
        signal::unblock_all();
        let _ = signal::send(process::id(), libc::SIGSYS, false);
    });
}

struct MainThread {
    shared: Arc<Shared>,
    root: Root,
    around: Surroundings,
    threads: Threads,
    /// Where raw syscalls that fit have their buffers.
    memory: Option<crate::sys::memory::Region>,
}

impl MainThread {
    fn run(&mut self, job: Job) {
        let Job { call, work } = job;
        if call.is_cancelled() {
            self.shared.finish(&call, Err(failure::cancelled()));
            return;
        }
        let outcome = call.interruptible(|| match work {
            Work::Op(op) => self.op(&call, op),
            Work::Worker { spec, lane, socket } => {
                self.threads.join_finished();
                worker::start(spec, lane, socket, self.root, &self.around).into()
            }
        });
        match outcome {
            Outcome::Done(result) => self.shared.finish(&call, result),
            Outcome::Continue(work) => self.threads.answer(&self.shared, &call, work),
            Outcome::HandedOver => {}
        }
    }

    fn op(&mut self, call: &Arc<Call>, op: Op) -> Outcome {
        if names_a_path(&op) {
            self.root.follow();
        }
        let shared = &self.shared;
        match op {
            Op::Exec(command) => match exec::start(shared, call, command, &self.around) {
                Ok(()) => Outcome::HandedOver,
                Err(error) => Err(error).into(),
            },
            Op::ReadFile { path, inline } => files::read(shared, call, path, inline),
            Op::WriteFile {
                path,
                perm,
                append,
                content,
            } => files::write(shared, call, path, files::Mode { perm, append }, content),
            Op::Stat { path } => files::stat(&path).into(),
            Op::ListDir { path } => files::list(&path).into(),
            Op::MakeDir {
                path,
                parents,
                perm,
            } => files::make_dir(&path, parents, perm).into(),
            Op::Unlink { path } => files::unlink(&path).into(),
            Op::Rename { from, to } => files::rename(&from, &to).into(),
            Op::Chmod { path, perm } => files::chmod(&path, perm).into(),
            Op::Symlink { target, path } => files::symlink(&target, &path).into(),
            Op::ReadLink { path } => files::read_link(&path).into(),
            Op::Open { path, flags, perm } => descriptors::open(call, path, flags, perm),
            Op::ReadFd { fd, max } => descriptors::read(call, fd, max),
            Op::StreamFd { fd } => descriptors::stream(shared, call, fd),
            Op::WriteFd { fd } => descriptors::write(shared, call, fd),
            Op::SeekFd { fd, offset, whence } => descriptors::seek(fd, offset, whence).into(),
            Op::CloseFd { fd } => descriptors::close(fd).into(),
            Op::TailFile { path, start } => tail::start(path, start),
            Op::Syscall(request) if shared.raw => syscall::run(call, request, &mut self.memory),
            Op::Syscall(_) => Err(failure::invalid("this lane makes no raw syscalls")).into(),
            Op::ClockGet => clock::get().into(),
            Op::ClockSet { ns } => clock::set(ns).into(),
            Op::ClockAdvance { ns } => clock::advance(ns).into(),
            Op::ClockSleep { ns } => clock::sleep(ns),
            _ => Err(failure::invalid("not an op of this lane")).into(),
        }
    }
}

/// Whether the root matters to the op.
fn names_a_path(op: &Op) -> bool {
    matches!(
        op,
        Op::Exec(_)
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
            | Op::TailFile { .. }
    )
}
