//! Processes: forking the agent's own, waiting, watching.

#![expect(unsafe_code, reason = "process calls of the kernel")]

use super::fd::own;
use super::{Errno, Sys, check};
use crate::allocator;
use std::mem;
use std::os::fd::{OwnedFd, RawFd};

/// Where a fork finds itself.
pub(crate) enum ForkSide {
    Parent(i32),
    Child,
}

/// Forks with the flags of `clone(2)` (`SIGCHLD` is added). In the child, the calling thread is the
/// only one; it may allocate and start threads, but locks that other threads of the parent held are
/// lost.
pub(crate) fn fork(flags: i32) -> Sys<ForkSide> {
    // No other thread is inside the allocator meanwhile.
    let pid = allocator::while_quiet(|| {
        if flags & libc::CLONE_NEWTIME == 0 {
            let flags = i64::from(flags | libc::SIGCHLD);
            // SAFETY: without CLONE_VM the child has memory and stack of its own.
            unsafe { libc::syscall(libc::SYS_clone, flags, 0_i64, 0_i64, 0_i64, 0_i64) }
        } else {
            fork_into_time_namespace(flags)
        }
    });
    match i32::try_from(check(pid)?).unwrap_or(0) {
        0 => Ok(ForkSide::Child),
        pid => Ok(ForkSide::Parent(pid)),
    }
}

/// The flag for a time namespace has the place of the signal in `clone(2)`, so this takes `clone3(2)`.
/// (Unsharing it later would do for children only, and forbid threads.)
fn fork_into_time_namespace(flags: i32) -> i64 {
    // With CLONE_PARENT, the signal is that of this process and must not be given.
    let signal = if flags & libc::CLONE_PARENT == 0 {
        libc::SIGCHLD
    } else {
        0
    };
    // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls
    let mut arguments = [0_u64; 8];
    arguments[0] = u64::from(flags.cast_unsigned());
    arguments[4] = u64::from(signal.cast_unsigned());
    let size = size_of_val(&arguments);
    // SAFETY: arguments of the size given; without CLONE_VM the child has memory and stack of its
    // own.
    unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size) }
}

/// Ends the process at once.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: no pointers.
    unsafe { libc::_exit(code) }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    Exited(i32),
    Signalled(i32),
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with status {code}"),
            Self::Signalled(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "was killed by {name} (signal {signal})"),
                None => write!(f, "was killed by signal {signal}"),
            },
        }
    }
}

/// Names of the signals that end processes.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

fn ending_of(status: i32) -> ExitStatus {
    if libc::WIFSIGNALED(status) {
        ExitStatus::Signalled(libc::WTERMSIG(status))
    } else {
        ExitStatus::Exited(libc::WEXITSTATUS(status))
    }
}

/// Collects a child that has ended, whichever. `None`: none has.
pub(crate) fn collect() -> Sys<Option<(i32, ExitStatus)>> {
    // `__WALL`: children made by a clone without SIGCHLD count too.
    let options = libc::WNOHANG | libc::__WALL;
    loop {
        let mut status = 0;
        // SAFETY: room for one status.
        let found = check(unsafe { libc::waitpid(-1, &raw mut status, options) })?;
        if found <= 0 {
            return Ok(None);
        }
        // A child that asked to be traced reports its stops, too.
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            return Ok(Some((found, ending_of(status))));
        }
    }
}

/// Whether a child has been stopped since the last look.
pub(crate) fn has_stopped(pid: i32) -> bool {
    let id = libc::id_t::from(pid.unsigned_abs());
    let options = libc::WSTOPPED | libc::WNOHANG;
    // SAFETY: all-zero is a valid siginfo, and there is room for it; the number in it is set by the
    // kernel, or still 0.
    unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        libc::waitid(libc::P_PID, id, &raw mut info, options) == 0 && info.si_pid() == pid
    }
}

/// Whether it is a child of this process that was not collected yet.
pub(crate) fn is_child(pid: i32) -> bool {
    let id = libc::id_t::from(pid.unsigned_abs());
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: all-zero is a valid siginfo, and there is room for it.
    unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        libc::waitid(libc::P_PID, id, &raw mut info, options) == 0
    }
}

/// Collects children that end, and never returns. For process 1 of a namespace.
pub(crate) fn reap_orphans() -> ! {
    loop {
        // SAFETY: the status is not requested; `pause` has no arguments.
        unsafe {
            while libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL) > 0 {}
            // No child now. One that is adopted sends SIGCHLD, which has a handler.
            libc::pause();
        }
    }
}

/// A descriptor of a process.
pub(crate) fn open(pid: i32) -> Sys<OwnedFd> {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    i32::try_from(fd).map(own).map_err(|_| Errno::INVAL)
}

/// This thread's id.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: no pointers.
    unsafe { libc::gettid() }
}

/// This process's id.
pub(crate) fn id() -> i32 {
    // SAFETY: no pointers.
    unsafe { libc::getpid() }
}

/// A copy of a descriptor of another process, by a descriptor of that process.
pub(crate) fn descriptor_of(process: RawFd, number: RawFd) -> Sys<OwnedFd> {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, number, 0) })?;
    i32::try_from(fd).map(own).map_err(|_| Errno::INVAL)
}

/// Has this process killed when the thread that forked it ends.
pub(crate) fn die_with_parent() {
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Sets the mask for new files; the one before.
pub(crate) fn set_umask(mask: u32) {
    // SAFETY: no pointers.
    unsafe { libc::umask(mask) };
}

/// A resource limit: soft, hard.
pub(crate) fn limit_of(pid: i32, resource: u32) -> Sys<libc::rlimit> {
    // SAFETY: room for one limit; a null pointer leaves it as it is.
    unsafe {
        let mut limit = mem::zeroed();
        check(libc::prlimit(
            pid,
            resource,
            std::ptr::null(),
            &raw mut limit,
        ))?;
        Ok(limit)
    }
}

/// Sets a resource limit of this process.
pub(crate) fn set_limit(resource: u32, limit: libc::rlimit) -> Sys<()> {
    // SAFETY: a valid limit.
    let result = unsafe { libc::prlimit(0, resource, &raw const limit, std::ptr::null_mut()) };
    check(result).map(drop)
}

/// Lets this process have as many descriptors as it may.
pub(crate) fn raise_descriptor_limit() {
    if let Ok(limit) = limit_of(0, libc::RLIMIT_NOFILE) {
        let _ = set_limit(
            libc::RLIMIT_NOFILE,
            libc::rlimit {
                rlim_cur: limit.rlim_max,
                ..limit
            },
        );
    }
}

/// Starts a session of its own.
pub(crate) fn new_session() {
    // SAFETY: no pointers.
    unsafe { libc::setsid() };
}

/// Names this thread, as process lists show it.
pub(crate) fn name_thread(name: &std::ffi::CStr) {
    // SAFETY: a terminated string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// User, group and supplementary groups of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

impl Identity {
    /// Takes the identity on, for the calling thread only (which in a child is all there is). Safe
    /// between `vfork` and `exec`.
    pub(crate) fn assume(&self) -> Sys<()> {
        let groups = self.groups.as_ptr();
        // SAFETY: the list is valid for its length. Bare calls: those of the C library would change
        // all threads.
        unsafe {
            check(libc::syscall(
                libc::SYS_setgroups,
                self.groups.len(),
                groups,
            ))?;
            check(libc::syscall(
                libc::SYS_setresgid,
                self.gid,
                self.gid,
                self.gid,
            ))?;
            check(libc::syscall(
                libc::SYS_setresuid,
                self.uid,
                self.uid,
                self.uid,
            ))?;
        }
        Ok(())
    }
}

/// Makes the files of this process in `/proc` its own again: a change of identity gives them to root.
pub(crate) fn own_proc_files() {
    // SAFETY: no pointers. It cannot fail with these arguments.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
}

/// Effective user and group of the calling thread.
pub(crate) fn effective_ids() -> (u32, u32) {
    // SAFETY: no pointers.
    unsafe { (libc::geteuid(), libc::getegid()) }
}
