//! A running child: its pipes, its end, its killer.
//!
//! The child leads a process group. When it ends, what is left of the group is killed *before* the
//! child is reaped: until then its zombie keeps the group's number from being given to strangers.

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
use crate::spawner::RawChild;
use crate::sys::watch_readable;

/// How long a dropped handle waits for its killed child before a thread does it instead. Only a
/// child stuck in the kernel takes longer.
const DROP_PATIENCE: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited by itself with this status.
    Exited(i32),
    /// This signal killed it.
    Signalled(i32),
}

impl Exit {
    /// Did it exit with status 0?
    pub fn success(self) -> bool {
        self == Exit::Exited(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Exited(status) => write!(f, "exited with status {status}"),
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
        libc::SIGBUS => "SIGBUS",
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

/// A running child. Dropping it kills its group and reaps it.
#[derive(Debug)]
pub struct Child {
    watched: Arc<Watched>,
    /// The write end of its standard input, if asked for.
    pub stdin: Option<pipe::Sender>,
    /// The read end of its standard output, if asked for.
    pub stdout: Option<pipe::Receiver>,
    /// The read end of its standard error, if asked for.
    pub stderr: Option<pipe::Receiver>,
}

/// A second handle on a child that can only kill it; harmless once the child is gone.
#[derive(Clone, Debug)]
pub struct Killer {
    watched: Arc<Watched>,
}

#[derive(Debug)]
struct Watched {
    program: String,
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    /// Set when the child has been reaped. Held while signals are sent, so that none goes to a
    /// number that is free again.
    ended: Mutex<Option<Exit>>,
    /// Of a supervised child that has not ended.
    watchdog: Mutex<Option<Watchdog>>,
}

/// The process that ends a supervised child with all its descendants. Dropping it has it do so, and
/// waits until it has.
#[derive(Debug)]
pub(crate) struct Watchdog {
    pid: Pid,
    /// Closed, it tells the watchdog to begin.
    lifeline: Option<OwnedFd>,
}

impl Watchdog {
    pub(crate) fn new(pid: Pid, lifeline: OwnedFd) -> Self {
        Self {
            pid,
            lifeline: Some(lifeline),
        }
    }

    /// The child has ended by itself, and so does its watchdog.
    fn dismiss(self) {
        if let Some(lifeline) = &self.lifeline {
            // It listens until it is told.
            let _ = rustix::io::write(lifeline, &[1]);
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.lifeline = None;
        // Some looks at /proc; nothing that it does can block.
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}

impl Child {
    pub(crate) fn follow(program: String, raw: RawChild) -> Result<Self, ProcessError> {
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
            // Without a descriptor to wait on nobody would ever end it: do so here. It is not
            // reaped, so the number is still its own.
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
            follow(error)
        })?;
        let watched = Arc::new(Watched {
            program: program.clone(),
            pid,
            pidfd,
            ended: Mutex::new(None),
            watchdog: Mutex::new(watchdog),
        });
        let mut child = Self {
            watched,
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

    /// The process id. Once the child has ended it may belong to somebody else.
    pub fn id(&self) -> u32 {
        self.watched.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for the end of the child, kills what is left of its group and reaps it. Can be
    /// cancelled and called again, also after the end.
    ///
    /// # Errors
    /// [`ProcessError::Follow`] if the kernel does not tell.
    pub async fn wait(&self) -> Result<Exit, ProcessError> {
        self.watched.wait().await
    }

    /// How it ended, if that is known already.
    pub fn ended(&self) -> Option<Exit> {
        self.watched.known_end()
    }

    /// Kills the whole group with SIGKILL. Does not wait; see [`Child::wait`].
    pub fn kill(&self) {
        self.watched.kill();
    }

    /// A handle for others to kill it by.
    pub fn killer(&self) -> Killer {
        Killer {
            watched: Arc::clone(&self.watched),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.watched.end_now();
    }
}

impl Killer {
    /// Kills the whole group with SIGKILL, unless the child has ended.
    pub fn kill(&self) {
        self.watched.kill();
    }

    /// Kills the whole group and reaps the child, without a runtime; blocks until it is gone.
    pub fn kill_and_reap(&self) {
        self.watched.end_now();
    }

    /// How it ended, if that is known already.
    pub fn ended(&self) -> Option<Exit> {
        self.watched.known_end()
    }
}

impl Watched {
    async fn wait(&self) -> Result<Exit, ProcessError> {
        let follow = |source| ProcessError::Follow {
            program: self.program.clone(),
            source,
        };
        loop {
            if let Some(exit) = self.known_end() {
                return Ok(exit);
            }
            let mut ready = self.pidfd.readable().await.map_err(follow)?;
            match self.reap().map_err(follow)? {
                Some(exit) => return Ok(exit),
                None => ready.clear_ready(),
            }
        }
    }

    fn known_end(&self) -> Option<Exit> {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            self.kill_descendants();
            kill_group(self.pid, self.pidfd.get_ref());
        }
    }

    /// Reaps the child if it has ended.
    fn reap(&self) -> io::Result<Option<Exit>> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            *ended = reap_if_ended(self.pid, self.pidfd.get_ref())?;
            if ended.is_some()
                && let Some(watchdog) = self.take_watchdog()
            {
                watchdog.dismiss();
            }
        }
        Ok(*ended)
    }

    fn end_now(&self) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            self.kill_descendants();
            *ended = Some(end_now(self.pid, self.pidfd.get_ref()));
        }
    }

    /// Kills a supervised child with all its descendants: before its group, since those that lose
    /// their parent can be told only by what they have kept of their environment.
    fn kill_descendants(&self) {
        drop(self.take_watchdog());
    }

    fn take_watchdog(&self) -> Option<Watchdog> {
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        watchdog.take()
    }
}

/// Kills the group, and the leader by its descriptor: it may have moved to another group.
fn kill_group(pid: Pid, pidfd: &OwnedFd) {
    let _ = kill_process_group(pid, Signal::KILL);
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
}

fn reap_if_ended(pid: Pid, pidfd: &OwnedFd) -> io::Result<Option<Exit>> {
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

/// Kills and reaps, at once and without a runtime.
fn end_now(pid: Pid, pidfd: &OwnedFd) -> Exit {
    kill_group(pid, pidfd);
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    // An interrupted wait only shortens our patience.
    let _ = poll(&mut fds, Some(&DROP_PATIENCE));
    match reap_if_ended(pid, pidfd) {
        Ok(Some(exit)) => exit,
        _ => {
            // Stuck in the kernel. It is killed; a thread collects it when it gets there.
            let _ = std::thread::Builder::new()
                .name("provium-reaper".to_owned())
                .spawn(move || {
                    let _ = waitpid(Some(pid), WaitOptions::empty());
                });
            Exit::Signalled(libc::SIGKILL)
        }
    }
}
