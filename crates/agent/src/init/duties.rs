//! What a PID 1 owes: reaping orphans, and heeding signals and the power button.

use std::os::fd::RawFd;

/// A child of PID 1 that has ended and was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reaped {
    /// Its process id, free again.
    pub(crate) pid: libc::pid_t,
    /// As `waitpid(2)` gives it: for `WIFEXITED` and its kin.
    pub(crate) status: libc::c_int,
}

/// The descriptors that PID 1 must listen to. The signals concerned are blocked in this process: a
/// child unblocks them for itself.
pub(crate) struct Pid1Duties {}

impl Pid1Duties {
    /// What to poll for input. Ask anew after every [`Self::ready`].
    pub(crate) fn poll_fds(&self) -> Vec<RawFd> {
        Vec::new()
    }

    /// Deals with input on one of [`Self::poll_fds`]: gives the children that have ended; does not
    /// return when the guest is to be switched off.
    pub(crate) fn ready(&mut self, _fd: RawFd) -> Vec<Reaped> {
        Vec::new()
    }
}
