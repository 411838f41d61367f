//! What a PID 1 owes: reaping orphans, and heeding signals and the power button.
//!
//! | signal | sent by | then |
//! |---|---|---|
//! | CHLD | kernel | children that have ended are waited for |
//! | USR1 | `halt` | halt |
//! | USR2, PWR | `poweroff`, UPS daemons | power off |
//! | TERM, INT | `reboot`, Ctrl-Alt-Del | reboot |
//!
//! as busybox init does it. The signals come by a `signalfd`, in step with everything else that the
//! router does.

#![expect(unsafe_code, reason = "signalfd and wait have no function in std")]

use super::button::Buttons;
use super::checked::checked;
use super::shutdown;
use super::uevents::Uevents;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A child of PID 1 that has ended and was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reaped {
    /// Its process id, free again.
    pub(crate) pid: libc::pid_t,
    /// As `waitpid(2)` gives it: for `WIFEXITED` and its kin.
    pub(crate) status: libc::c_int,
}

const HEEDED: [libc::c_int; 6] = [
    libc::SIGCHLD,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGPWR,
    libc::SIGTERM,
    libc::SIGINT,
];

/// The descriptors that PID 1 must listen to. The signals concerned are blocked in this process: a
/// child unblocks them for itself.
pub(crate) struct Pid1Duties {
    signals: OwnedFd,
    uevents: Option<Uevents>,
    buttons: Buttons,
}

impl Pid1Duties {
    /// Takes the duties up. Call before there is a second thread.
    pub(super) fn take_up(uevents: Option<Uevents>) -> io::Result<Self> {
        // SAFETY: `sigset_t` is plain data that `sigemptyset` then fills.
        let mut heeded: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a `sigset_t`.
        unsafe { libc::sigemptyset(&mut heeded) };
        for signal in HEEDED {
            // SAFETY: as above.
            unsafe { libc::sigaddset(&mut heeded, signal) };
        }
        // SAFETY: as above; the former mask is not asked for.
        checked(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &heeded, std::ptr::null_mut()) })?;
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: as above.
        let fd = checked(unsafe { libc::signalfd(-1, &heeded, flags) })?;
        // SAFETY: a descriptor that was just made and belongs to nobody else.
        let signals = unsafe { OwnedFd::from_raw_fd(fd) };
        // Ctrl-Alt-Del becomes a SIGINT instead of an instant reboot.
        // SAFETY: no pointers.
        unsafe { libc::reboot(libc::RB_DISABLE_CAD) };
        Ok(Self { signals, uevents, buttons: Buttons::find() })
    }

    /// What to poll for input. Ask anew after every [`Self::ready`].
    pub(crate) fn poll_fds(&self) -> Vec<RawFd> {
        let mut fds = vec![self.signals.as_raw_fd()];
        fds.extend(self.uevents.as_ref().map(AsRawFd::as_raw_fd));
        fds.extend(self.buttons.fds());
        fds
    }

    /// Deals with input (or an error) on one of [`Self::poll_fds`]: gives the children that have
    /// ended; does not return when the guest is to be switched off.
    pub(crate) fn ready(&mut self, fd: RawFd) -> Vec<Reaped> {
        if fd == self.signals.as_raw_fd() {
            return self.heed_signals();
        }
        match &self.uevents {
            Some(uevents) if fd == uevents.as_raw_fd() => {
                if uevents.heard_of_input() {
                    self.buttons = Buttons::find();
                }
            }
            _ => {
                if self.buttons.pressed(fd) {
                    shutdown::power_off()
                }
            }
        }
        Vec::new()
    }

    fn heed_signals(&self) -> Vec<Reaped> {
        let mut reaped = Vec::new();
        while let Some(signal) = self.next_signal() {
            match signal {
                libc::SIGCHLD => reap(&mut reaped),
                libc::SIGUSR1 => shutdown::halt(),
                libc::SIGUSR2 | libc::SIGPWR => shutdown::power_off(),
                libc::SIGTERM | libc::SIGINT => shutdown::reboot(),
                _ => {}
            }
        }
        reaped
    }

    fn next_signal(&self) -> Option<libc::c_int> {
        // SAFETY: `signalfd_siginfo` is plain data, for which all zeros is a value.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: pointer and length are those of one structure. The descriptor does not block.
        let read = unsafe {
            libc::read(self.signals.as_raw_fd(), std::ptr::from_mut(&mut info).cast(), size)
        };
        if usize::try_from(read) == Ok(size) { info.ssi_signo.try_into().ok() } else { None }
    }
}

/// Waits for all that have ended. One signal may stand for many of them.
fn reap(reaped: &mut Vec<Reaped>) {
    loop {
        let mut status = 0;
        // SAFETY: the pointer is to an integer. `__WALL`: also what was cloned with another signal.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG | libc::__WALL) };
        if pid <= 0 {
            return;
        }
        reaped.push(Reaped { pid, status });
    }
}
