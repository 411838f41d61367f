//! The fork itself: what the child does between `fork` and `execve`.
//!
//! Between the two the child may call only async-signal-safe functions, because it is the copy of
//! one thread of a process with many: no allocation, no lock, no Rust runtime. Everything it needs
//! is therefore prepared before, in [`ExecArgs`].
#![expect(
    unsafe_code,
    reason = "fork, system calls between fork and exec, and registering a descriptor have no safe form"
)]

use std::ffi::{CString, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::watchdog;
use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What a child needs, in the form that the kernel takes.
pub(crate) struct ExecArgs {
    /// The file to execute.
    pub(crate) file: CString,
    /// Arguments, the program's name first.
    pub(crate) arguments: Vec<CString>,
    /// The environment.
    pub(crate) environment: Vec<CString>,
    /// Working directory, unless it is the parent's.
    pub(crate) directory: Option<CString>,
    /// The child's files: the number in the child, and the file here. Every file here has a number
    /// above all numbers in the child, so that `dup2` never overwrites another one.
    pub(crate) files: Vec<(RawFd, OwnedFd)>,
    /// Where the child writes the error number of a failed step; close-on-exec, and its number too
    /// is above all numbers in the child.
    pub(crate) failure: OwnedFd,
    /// Resource limits that the child gets instead of those of this process.
    pub(crate) limits: Vec<(c_int, libc::rlimit)>,
    /// The child gives up every capability, also as root.
    pub(crate) without_capabilities: bool,
    /// The child gets a watchdog, which kills it and all its descendants when this process is gone.
    pub(crate) watchdog: Option<WatchdogArgs>,
}

/// What a child's watchdog needs.
pub(crate) struct WatchdogArgs {
    /// The read end of a pipe whose write end this process holds.
    pub(crate) lifeline: OwnedFd,
    /// An entry of the child's environment that nothing else has.
    pub(crate) mark: CString,
}

/// What was forked.
pub(crate) struct ForkedChild {
    pub(crate) pid: Pid,
    pub(crate) watchdog: Option<Pid>,
}

/// Forks and executes. The pipe `failure` reports whether the exec succeeded: if it ends without a
/// byte, it did.
///
/// Must run on a thread that outlives the child and that has all signals blocked.
pub(crate) fn fork_exec(exec: &ExecArgs) -> io::Result<ForkedChild> {
    let arguments = pointers(&exec.arguments);
    let environment = pointers(&exec.environment);
    // SAFETY: getpid has no preconditions.
    let parent = unsafe { libc::getpid() };
    let watchdog = match &exec.watchdog {
        None => None,
        // SAFETY: the child only runs `watch`, which keeps to async-signal-safe calls and never
        // returns.
        Some(args) => match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            // SAFETY: in the child, on a thread that has all signals blocked.
            0 => unsafe { watchdog::watch(parent, args.lifeline.as_raw_fd(), &args.mark) },
            pid => Pid::from_raw(pid),
        },
    };
    // SAFETY: the child only runs `become_child`, which keeps to async-signal-safe calls and never
    // returns.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: in the child; the pointer lists end in a null and outlive the call.
        0 => unsafe { become_child(exec, parent, &arguments, &environment) },
        pid => match Pid::from_raw(pid) {
            Some(pid) => Ok(ForkedChild { pid, watchdog }),
            None => Err(io::Error::other("fork gave no process id")),
        },
    }
}

/// Blocks every signal on this thread, so that no handler of the host process runs in a fresh child.
pub(crate) fn block_all_signals() {
    // SAFETY: `set` is initialised by sigfillset before it is read; a null old set is allowed.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
    }
}

/// Registers a pidfd with the runtime.
pub fn watch_readable(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` gives the same open descriptor until it is dropped, which the `AsyncFd`
    // that owns it does only after taking it out of the runtime's poll set.
    unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }
        .map_err(|failed| failed.into_parts().1)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain(std::iter::once(ptr::null()))
        .collect()
}

/// # Safety
/// Only in a freshly forked child; the pointer lists must end in a null.
unsafe fn become_child(
    exec: &ExecArgs,
    parent: libc::pid_t,
    arguments: &[*const c_char],
    environment: &[*const c_char],
) -> ! {
    // SAFETY: only async-signal-safe system calls, on memory exec by the parent.
    unsafe {
        // A child with a watchdog is killed by it, so that its descendants are found first.
        let death = match exec.watchdog {
            Some(_) => 0,
            None => libc::SIGKILL as libc::c_ulong,
        };
        let done =
            libc::setpgid(0, 0) == 0 && libc::prctl(libc::PR_SET_PDEATHSIG, death, 0, 0, 0) == 0;
        // The parent may have died before the signal was set, and then it is never sent.
        if libc::getppid() != parent {
            libc::_exit(127);
        }
        let done = done
            && close_all_on_exec()
            && exec
                .files
                .iter()
                .all(|(number, file)| libc::dup2(file.as_raw_fd(), *number) == *number)
            && exec
                .directory
                .as_ref()
                .is_none_or(|dir| libc::chdir(dir.as_ptr()) == 0);
        for (resource, limit) in &exec.limits {
            // A limit that cannot be restored is only higher than the original one.
            libc::setrlimit(*resource as _, &raw const *limit);
        }
        if exec.without_capabilities {
            drop_capabilities();
        }
        if done {
            // Dispositions before the mask: no handler of the parent may see a pending signal.
            for signal in 1..=64 {
                libc::signal(signal, libc::SIG_DFL);
            }
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            libc::execve(exec.file.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        }
        let error: c_int = *libc::__errno_location();
        let bytes = error.to_ne_bytes();
        libc::write(exec.failure.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
        libc::_exit(127);
    }
}

/// Drops every capability from the bounding set, and with the `execve` that follows all others: a
/// program that root executes gets those of the bounding set and of the inheritable set
/// (`capabilities(7)`). A caller that has no capability has nothing to give up, so that errors do not
/// matter.
///
/// # Safety
/// Only in a freshly forked child.
unsafe fn drop_capabilities() {
    /// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`.
    const VERSION: u32 = 0x2008_0522;
    // SAFETY: prctl takes plain numbers; capget and capset take a header of two words and, in this
    // version, two sets of three words.
    unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        );
        for capability in 0..64 as libc::c_ulong {
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
        let mut header = [VERSION, 0];
        let mut sets = [0_u32; 6];
        if libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) == 0 {
            // Each set is effective, permitted, inheritable.
            sets[2] = 0;
            sets[5] = 0;
            libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr());
        }
    }
}

/// Ignores `signal` in this process. Children that this crate starts get the default again.
pub(crate) fn ignore(signal: c_int) {
    // SAFETY: ignoring a signal runs no handler.
    unsafe {
        libc::signal(signal, libc::SIG_IGN);
    }
}

/// Ends this process without running handlers or destructors.
pub(crate) fn exit_now(status: c_int) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Marks every file from 3 on as close-on-exec, also those that a library opened without the flag.
///
/// # Safety
/// Only in a freshly forked child: it changes every file of the process.
unsafe fn close_all_on_exec() -> bool {
    // SAFETY: system calls on plain numbers.
    unsafe {
        let flags = libc::CLOSE_RANGE_CLOEXEC;
        if libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, flags) == 0 {
            return true;
        }
        // Linux before 5.11. A number that is not open fails, which does not matter.
        let open_max = libc::sysconf(libc::_SC_OPEN_MAX).clamp(3, 65_536) as c_int;
        for number in 3..open_max {
            libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        true
    }
}
