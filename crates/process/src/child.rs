//! A running child: its pipes, its exit, and handles to kill it.
//!
//! The child leads a process group. When it exits, the rest of the group is killed *before* the child
//! is reaped: until then its zombie prevents the kernel from giving the group's id to other processes.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, pidfd_send_signal, waitid,
    waitpid,
};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;

use crate::error::ProcessError;
use crate::sys::watch_readable;

/// How long a dropped handle waits for its killed child; after that a thread does. Only a child that
/// cannot leave the kernel takes longer.
const REAP_TIMEOUT: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// The exit status of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Exited(i32),
    /// It was killed by this signal.
    Signalled(i32),
}

impl Exit {
    /// Whether it exited with status 0.
    pub fn success(self) -> bool {
        self == Exit::Exited(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Exited(status) => write!(f, "exited with status {status}"),
            // The kernel sends it for memory that is a file, when that cannot grow or has been cut.
            Exit::Signalled(libc::SIGBUS) => f.write_str(
                "was killed by SIGBUS: a file system with a file that it maps is full, or the file was cut",
            ),
            Exit::Signalled(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "was killed by {name}"),
                None => write!(f, "was killed by signal {signal}"),
            },
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGTERM => "SIGTERM",
        libc::SIGSYS => "SIGSYS",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return None,
    })
}

/// A child that was forked, before its pidfd and pipes are registered with the runtime.
pub(crate) struct RawChild {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    /// Of a supervised child.
    pub(crate) watchdog: Option<Watchdog>,
}

/// A running child. Dropping it kills its group and reaps it.
#[derive(Debug)]
pub struct Child {
    state: Arc<ChildState>,
    /// The write end of its standard input, if asked for.
    pub stdin: Option<pipe::Sender>,
    /// The read end of its standard output, if asked for.
    pub stdout: Option<pipe::Receiver>,
    /// The read end of its standard error, if asked for.
    pub stderr: Option<pipe::Receiver>,
}

/// A second handle of a child, which can only kill it. It has no effect after the child's exit.
#[derive(Clone, Debug)]
pub struct Killer {
    state: Arc<ChildState>,
}

#[derive(Debug)]
struct ChildState {
    program: String,
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    /// Set when the child has been reaped. Locked while signals are sent, so that none is sent to a
    /// process id that is in use again.
    ended: Mutex<Option<Exit>>,
    /// Of a supervised child that has not exited.
    watchdog: Mutex<Option<Watchdog>>,
}

/// The process that kills a supervised child with all its descendants. Dropping this makes it do so,
/// and waits until it has.
#[derive(Debug)]
pub(crate) struct Watchdog {
    pid: Pid,
    /// Closing it makes the watchdog begin.
    lifeline: Option<OwnedFd>,
}

impl Watchdog {
    pub(crate) fn new(pid: Pid, lifeline: OwnedFd) -> Self {
        Self {
            pid,
            lifeline: Some(lifeline),
        }
    }

    /// Ends the watchdog of a child that has exited by itself.
    fn dismiss(self) {
        if let Some(lifeline) = &self.lifeline {
            let _ = rustix::io::write(lifeline, &[1]);
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.lifeline = None;
        // It scans /proc a few times; none of its calls block.
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}

impl Child {
    /// Registers the child with the runtime.
    pub(crate) fn watch(program: String, raw: RawChild) -> Result<Self, ProcessError> {
        let RawChild {
            pid,
            pidfd,
            stdin,
            stdout,
            stderr,
            watchdog,
        } = raw;
        let follow = |source| ProcessError::Follow {
            program: program.clone(),
            source,
        };
        let pidfd = watch_readable(pidfd).map_err(|error| {
            // Nothing else would kill and reap it. It has not been reaped, so its id is not in use
            // again.
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
            follow(error)
        })?;
        let state = Arc::new(ChildState {
            program: program.clone(),
            pid,
            pidfd,
            ended: Mutex::new(None),
            watchdog: Mutex::new(watchdog),
        });
        let mut child = Self {
            state,
            stdin: None,
            stdout: None,
            stderr: None,
        };
        child.stdin = stdin
            .map(pipe::Sender::from_owned_fd)
            .transpose()
            .map_err(follow)?;
        child.stdout = stdout
            .map(pipe::Receiver::from_owned_fd)
            .transpose()
            .map_err(follow)?;
        child.stderr = stderr
            .map(pipe::Receiver::from_owned_fd)
            .transpose()
            .map_err(follow)?;
        Ok(child)
    }

    /// The process id. After the exit of the child it may be that of another process.
    pub fn id(&self) -> u32 {
        self.state.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for the exit of the child, kills the rest of its group and reaps it. Can be cancelled and
    /// called again, also after the exit.
    ///
    /// # Errors
    /// [`ProcessError::Follow`] if the kernel refuses to wait.
    pub async fn wait(&self) -> Result<Exit, ProcessError> {
        self.state.wait().await
    }

    /// Its exit status, if it has exited by now. Reaps it as [`Child::wait`] does, and does not wait.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn try_wait(&self) -> Result<Option<Exit>, ProcessError> {
        self.state.try_wait()
    }

    /// Its exit status, if it is known already.
    pub fn ended(&self) -> Option<Exit> {
        self.state.known_exit()
    }

    /// Kills the whole group with SIGKILL. Does not wait; see [`Child::wait`].
    pub fn kill(&self) {
        self.state.kill();
    }

    /// A second handle that can kill it.
    pub fn killer(&self) -> Killer {
        Killer {
            state: Arc::clone(&self.state),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.state.kill_and_reap();
    }
}

impl Killer {
    /// Kills the whole group with SIGKILL, unless the child has exited.
    pub fn kill(&self) {
        self.state.kill();
    }

    /// Kills the whole group and reaps the child, without a runtime. Blocks until that is done.
    pub fn kill_and_reap(&self) {
        self.state.kill_and_reap();
    }

    /// Its exit status, if it is known already.
    pub fn ended(&self) -> Option<Exit> {
        self.state.known_exit()
    }
}

impl ChildState {
    async fn wait(&self) -> Result<Exit, ProcessError> {
        loop {
            if let Some(exit) = self.known_exit() {
                return Ok(exit);
            }
            let ready = self.pidfd.readable().await;
            let mut ready = ready.map_err(|source| self.follow_error(source))?;
            match self.try_wait()? {
                Some(exit) => return Ok(exit),
                None => ready.clear_ready(),
            }
        }
    }

    fn try_wait(&self) -> Result<Option<Exit>, ProcessError> {
        self.reap().map_err(|source| self.follow_error(source))
    }

    fn follow_error(&self, source: io::Error) -> ProcessError {
        ProcessError::Follow {
            program: self.program.clone(),
            source,
        }
    }

    fn known_exit(&self) -> Option<Exit> {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            self.kill_descendants();
            kill_group(self.pid, self.pidfd.get_ref());
        }
    }

    /// Reaps the child if it has exited.
    fn reap(&self) -> io::Result<Option<Exit>> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            *ended = reap_if_exited(self.pid, self.pidfd.get_ref())?;
            if ended.is_some()
                && let Some(watchdog) = self.take_watchdog()
            {
                watchdog.dismiss();
            }
        }
        Ok(*ended)
    }

    fn kill_and_reap(&self) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            self.kill_descendants();
            *ended = Some(kill_and_reap(self.pid, self.pidfd.get_ref()));
        }
    }

    /// Kills a supervised child with all its descendants. Comes before the group is killed: a process
    /// that has lost its parent is recognised only by its environment, which it may have changed.
    fn kill_descendants(&self) {
        drop(self.take_watchdog());
    }

    fn take_watchdog(&self) -> Option<Watchdog> {
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        watchdog.take()
    }
}

/// Kills the group, and the leader by its pidfd: it may have moved to another group.
fn kill_group(pid: Pid, pidfd: &OwnedFd) {
    let _ = kill_process_group(pid, Signal::KILL);
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
}

fn reap_if_exited(pid: Pid, pidfd: &OwnedFd) -> io::Result<Option<Exit>> {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if waitid(WaitId::PidFd(pidfd.as_fd()), peek)?.is_none() {
        return Ok(None);
    }
    let _ = kill_process_group(pid, Signal::KILL);
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
    Ok(status.map(
        |status| match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Exited(code),
            (None, Some(signal)) => Exit::Signalled(signal),
            // `EXITED` lets only these two through.
            (None, None) => Exit::Exited(-1),
        },
    ))
}

/// Kills and reaps the child without a runtime.
fn kill_and_reap(pid: Pid, pidfd: &OwnedFd) -> Exit {
    kill_group(pid, pidfd);
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    // An interrupted wait is only shorter.
    let _ = poll(&mut fds, Some(&REAP_TIMEOUT));
    match reap_if_exited(pid, pidfd) {
        Ok(Some(exit)) => exit,
        _ => {
            // It cannot leave the kernel yet. A thread reaps it when it does.
            let _ = std::thread::Builder::new()
                .name("provium-reaper".to_owned())
                .spawn(move || {
                    let _ = waitpid(Some(pid), WaitOptions::empty());
                });
            Exit::Signalled(libc::SIGKILL)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_error_suggests_its_cause() {
        let of = |signal| Exit::Signalled(signal).to_string();
        assert_eq!(of(libc::SIGKILL), "was killed by SIGKILL");
        assert!(
            of(libc::SIGBUS).contains("SIGBUS: a file system with a file that it maps is full")
        );
    }
}
