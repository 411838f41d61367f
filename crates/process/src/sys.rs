//! The fork itself: what the child does between `fork` and `execve`.
//!
//! Between the two the child may call only async-signal-safe functions, because it is the copy of
//! one thread of a process with many: no allocation, no lock, no Rust runtime. Everything it needs
//! is therefore made ready before, in [`Prepared`].
#![expect(
    unsafe_code,
    reason = "fork, system calls between fork and exec, and registering a descriptor have no safe form"
)]

use std::ffi::{CString, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// All that a child needs, as the kernel takes it.
pub(crate) struct Prepared {
    /// The file to execute.
    pub(crate) file: CString,
    /// Arguments, the program's name first.
    pub(crate) arguments: Vec<CString>,
    /// The environment.
    pub(crate) environment: Vec<CString>,
    /// Working directory, if another than the parent's.
    pub(crate) directory: Option<CString>,
    /// The child's files: number there, file here. Every file here has a number above all numbers
    /// there, so that placing one never overwrites another.
    pub(crate) files: Vec<(RawFd, OwnedFd)>,
    /// Where the child writes the error number of a failed step; close-on-exec, and its number too
    /// is above all numbers in the child.
    pub(crate) failure: OwnedFd,
}

/// Forks and executes; gives the child's process id. Whether the exec succeeded is told by the pipe
/// behind `failure`: nothing but its end means success.
///
/// Must run on a thread that outlives the child and that has all signals blocked.
pub(crate) fn fork_exec(prepared: &Prepared) -> io::Result<Pid> {
    let arguments = pointers(&prepared.arguments);
    let environment = pointers(&prepared.environment);
    // SAFETY: getpid has no preconditions.
    let parent = unsafe { libc::getpid() };
    // SAFETY: the child only runs `become_child`, which keeps to async-signal-safe calls and never
    // returns.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: in the child; the pointer lists end in a null and outlive the call.
        0 => unsafe { become_child(prepared, parent, &arguments, &environment) },
        pid => Pid::from_raw(pid).ok_or_else(|| io::Error::other("fork gave no process id")),
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
    prepared: &Prepared,
    parent: libc::pid_t,
    arguments: &[*const c_char],
    environment: &[*const c_char],
) -> ! {
    // SAFETY: only async-signal-safe system calls, on memory prepared by the parent.
    unsafe {
        let done = libc::setpgid(0, 0) == 0
            && libc::prctl(
                libc::PR_SET_PDEATHSIG,
                libc::SIGKILL as libc::c_ulong,
                0,
                0,
                0,
            ) == 0;
        // The parent may have died before the signal was asked for; then nobody would kill us.
        if libc::getppid() != parent {
            libc::_exit(127);
        }
        let done = done
            && close_all_on_exec()
            && prepared
                .files
                .iter()
                .all(|(number, file)| libc::dup2(file.as_raw_fd(), *number) == *number)
            && prepared
                .directory
                .as_ref()
                .is_none_or(|dir| libc::chdir(dir.as_ptr()) == 0);
        if done {
            // Dispositions before the mask: no handler of the parent may see a pending signal.
            for signal in 1..=64 {
                libc::signal(signal, libc::SIG_DFL);
            }
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            libc::execve(
                prepared.file.as_ptr(),
                arguments.as_ptr(),
                environment.as_ptr(),
            );
        }
        let error: c_int = *libc::__errno_location();
        let bytes = error.to_ne_bytes();
        libc::write(
            prepared.failure.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
        );
        libc::_exit(127);
    }
}

/// Marks every file from 3 on as close-on-exec, also those that some library opened carelessly.
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
        // Linux before 5.11. A number that is not open is no error here.
        let open_max = libc::sysconf(libc::_SC_OPEN_MAX).clamp(3, 65_536) as c_int;
        for number in 3..open_max {
            libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        true
    }
}
