//! The process between this one and a command of a user's: it ends all that the command has started.
//!
//! A parent-death signal reaches only the child itself, and a process group only those that stay in
//! it. A shell's own children have neither when this process is killed with SIGKILL. The supervisor
//! is a subreaper (`prctl(2)`, `PR_SET_CHILD_SUBREAPER`): whatever descends from it stays below it.
//! It waits for the command and for the end of a pipe whose other end only this process holds:
//!
//! - The command ends: what is left of its group is killed, and the supervisor ends in the same way,
//!   by status or by signal.
//! - The pipe ends, because the handle was dropped or this process is gone: everything below it is
//!   killed, whatever group or session it is in.
//!
//! It is a fork without an exec, so that it keeps to async-signal-safe calls, as the rest of
//! [`sys`](crate::sys) does.
#![expect(
    unsafe_code,
    reason = "system calls in a forked child have no safe form there"
)]

use std::ffi::{c_char, c_int};
use std::os::fd::RawFd;
use std::ptr;

/// Children whose numbers are read at once, bytes of text.
const CHILDREN: usize = 4096;

/// Becomes the supervisor of what `start` becomes; `start` is given the supervisor's process id.
///
/// # Safety
/// Only in a freshly forked child that has all signals blocked; `start` must keep to
/// async-signal-safe calls and never return.
pub(crate) unsafe fn supervise(
    parent: libc::pid_t,
    lifeline: RawFd,
    start: impl FnOnce(libc::pid_t),
) -> ! {
    // SAFETY: async-signal-safe system calls on plain numbers and on memory of this frame.
    unsafe {
        libc::setpgid(0, 0);
        let name = c"provium-watch";
        libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as libc::c_ulong, 0, 0, 0);
        if libc::getppid() != parent {
            libc::_exit(127);
        }
        let supervisor = libc::getpid();
        // As fork(2), without the handlers that only a whole process can run.
        let command = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t;
        if command == 0 {
            start(supervisor);
            libc::_exit(127);
        }
        if command < 0 {
            libc::_exit(127);
        }
        close_all_but(lifeline);
        let pidfd = libc::syscall(libc::SYS_pidfd_open, command, 0) as c_int;
        if pidfd < 0 || !ends_first(pidfd, lifeline) {
            kill_all_below();
            end_by(libc::SIGKILL);
        }
        // Until it is reaped its number, and that of its group, is its own.
        libc::kill(-command, libc::SIGKILL);
        let mut status = 0;
        libc::waitpid(command, &raw mut status, 0);
        if libc::WIFSIGNALED(status) {
            end_by(libc::WTERMSIG(status));
        }
        libc::_exit(libc::WEXITSTATUS(status));
    }
}

/// Waits; whether the command ended before the lifeline did.
///
/// # Safety
/// The numbers are open files.
unsafe fn ends_first(pidfd: c_int, lifeline: c_int) -> bool {
    let watch = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut files = [watch(pidfd), watch(lifeline)];
    loop {
        // SAFETY: two entries are there.
        if unsafe { libc::poll(files.as_mut_ptr(), 2, -1) } > 0 {
            return files[0].revents != 0;
        }
    }
}

/// Kills every descendant. The children of one that dies become this process's own, so that it is
/// done when there is no child left.
///
/// # Safety
/// Only in the supervisor: it kills and reaps every child of the calling process.
unsafe fn kill_all_below() {
    loop {
        // SAFETY: system calls on plain numbers.
        unsafe {
            let killed = kill_children();
            match libc::waitpid(-1, ptr::null_mut(), if killed { 0 } else { libc::WNOHANG }) {
                reaped if reaped > 0 => {}
                // None is left, or none can be named: a kernel without CONFIG_PROC_CHILDREN.
                _ => return,
            }
        }
    }
}

/// Kills all that are children now; whether there was one.
///
/// # Safety
/// Only in the supervisor.
unsafe fn kill_children() -> bool {
    let path = c"/proc/thread-self/children";
    let mut text = [0_u8; CHILDREN];
    // SAFETY: the path ends in a null, and the buffer is as long as it is said to be.
    let length = unsafe {
        let file = libc::open(path.as_ptr().cast::<c_char>(), libc::O_RDONLY);
        if file < 0 {
            return false;
        }
        let length = libc::read(file, text.as_mut_ptr().cast(), text.len());
        libc::close(file);
        usize::try_from(length).unwrap_or(0)
    };
    let mut found = false;
    let mut number: libc::pid_t = 0;
    for byte in text.iter().take(length) {
        match byte {
            b'0'..=b'9' => {
                number = number.wrapping_mul(10).wrapping_add((byte - b'0').into());
            }
            _ => {
                if number > 0 {
                    // SAFETY: a child that is not reaped keeps its number.
                    unsafe { libc::kill(number, libc::SIGKILL) };
                    found = true;
                }
                number = 0;
            }
        }
    }
    found
}

/// Ends this process by `signal`, as the command was ended.
///
/// # Safety
/// Only in the supervisor.
unsafe fn end_by(signal: c_int) -> ! {
    // SAFETY: system calls on memory of this frame.
    unsafe {
        // The command may have left a core; its supervisor has nothing to show.
        let none = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::signal(signal, libc::SIG_DFL);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
        libc::kill(libc::getpid(), signal);
        libc::_exit(128 + signal)
    }
}

/// Closes every file but one: the command's own, and those of the process that this is a copy of.
///
/// # Safety
/// Only in the supervisor.
unsafe fn close_all_but(kept: RawFd) {
    let kept = kept.unsigned_abs();
    // SAFETY: system calls on plain numbers.
    unsafe {
        if libc::syscall(libc::SYS_close_range, kept + 1, u32::MAX, 0) == 0 {
            libc::syscall(libc::SYS_close_range, 0, kept - 1, 0);
            return;
        }
        // Linux before 5.9.
        let open_max = libc::sysconf(libc::_SC_OPEN_MAX).clamp(3, 65_536) as c_int;
        for number in (0..open_max).filter(|number| number.unsigned_abs() != kept) {
            libc::close(number);
        }
    }
}
