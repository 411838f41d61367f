//! Signals: which are blocked, which are read as a stream, and the one that interrupts a thread.

#![expect(unsafe_code, reason = "signal calls of the kernel")]

use super::fd::{own, read};
use super::{Sys, check};
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

/// Sent to a thread to get it out of a call that waits. Late among the real-time signals, so that
/// it is unlikely to be one that a test uses.
pub(crate) const INTERRUPT: i32 = 62;

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set; sigaddset changes it in place.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

fn set_mask(set: &libc::sigset_t) {
    // SAFETY: the set is initialised.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set, ptr::null_mut()) };
}

/// Blocks nothing in this thread.
pub(crate) fn unblock_all() {
    set_mask(&set_of(&[]));
}

/// Blocks these only in this thread.
pub(crate) fn block_only(signals: &[i32]) {
    set_mask(&set_of(signals));
}

fn full() -> libc::sigset_t {
    // SAFETY: sigfillset initialises the set.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigfillset(&raw mut set);
        set
    }
}

/// Gives every signal its default disposition.
pub(crate) fn default_dispositions() {
    // The kernel's own layout: handler, flags, restorer, mask. All zero is the default.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: the structure is as large as the kernel reads. A bare call, because the C library
        // keeps two signals to itself, which may have come ignored from the parent all the same.
        // KILL and STOP refuse, which is as well.
        unsafe {
            let none = ptr::null_mut::<u64>();
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                none,
                8_usize,
            );
        }
    }
}

/// Ignores a signal, in children too.
pub(crate) fn ignore(signal: i32) {
    // SAFETY: ignoring needs no handler.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

extern "C" fn do_nothing(_: i32) {}

/// Makes [`INTERRUPT`] break calls that wait, and do nothing else.
pub(crate) fn install_interrupt() {
    let handler: extern "C" fn(i32) = do_nothing;
    // SAFETY: all-zero is a valid sigaction; no SA_RESTART, so calls return EINTR.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        libc::sigaction(INTERRUPT, &raw const action, ptr::null_mut());
    }
}

/// Sends [`INTERRUPT`] to a thread of a process.
pub(crate) fn interrupt(pid: i32, tid: i32) {
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, INTERRUPT) };
}

/// Runs `action` with all signals but [`INTERRUPT`] blocked.
pub(crate) fn all_but_interrupt_blocked<R>(action: impl FnOnce() -> R) -> R {
    let mut set = full();
    let mut old = set_of(&[]);
    // SAFETY: both sets are initialised.
    unsafe {
        libc::sigdelset(&raw mut set, INTERRUPT);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, &raw mut old);
    }
    let result = action();
    set_mask(&old);
    result
}

/// Blocks every signal in this thread.
pub(crate) fn block_all() {
    set_mask(&full());
}

/// Lets SIGCHLD interrupt a wait, and do nothing else.
pub(crate) fn notice_children() {
    let handler: extern "C" fn(i32) = do_nothing;
    // SAFETY: all-zero is a valid sigaction.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        libc::sigaction(libc::SIGCHLD, &raw const action, ptr::null_mut());
    }
}

/// Sends a signal to a process; to a process group when `group`.
pub(crate) fn send(pid: i32, signal: i32, group: bool) -> Sys<()> {
    // A pid of 0 or below would mean others than asked for.
    if pid <= 0 {
        return Err(super::Errno::SRCH);
    }
    // SAFETY: no pointers.
    check(unsafe { libc::kill(if group { -pid } else { pid }, signal) }).map(drop)
}

/// Signals as a stream. They must be blocked.
pub(crate) struct SignalStream(OwnedFd);

impl SignalStream {
    /// A stream of these.
    pub(crate) fn of(signals: &[i32]) -> Sys<Self> {
        let set = set_of(signals);
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the set is initialised.
        check(unsafe { libc::signalfd(-1, &raw const set, flags) }).map(|fd| Self(own(fd)))
    }

    /// The next signal that came.
    pub(crate) fn next(&self) -> Option<i32> {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        let got = read(self.0.as_raw_fd(), &mut info).ok()?;
        let number = info.first_chunk::<4>().filter(|_| got == info.len())?;
        i32::try_from(u32::from_ne_bytes(*number)).ok()
    }
}

impl AsRawFd for SignalStream {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}
