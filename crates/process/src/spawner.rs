//! The one thread that forks.
//!
//! A parent-death signal (`prctl(2)`, `PR_SET_PDEATHSIG`) comes when the *thread* that forked ends.
//! Threads of a runtime come and go, so a child forked from one of them would be killed for no
//! reason. This thread starts with the first child and ends with the process.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::child::Watchdog;
use crate::command::{Command, Stdio};
use crate::error::ProcessError;
use crate::limits;
use crate::sys::{self, Forked, Prepared, Watched};

/// A child that runs, with nobody looking after it yet.
pub(crate) struct RawChild {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    /// Of a supervised child.
    pub(crate) watchdog: Option<Watchdog>,
}

struct Request {
    prepared: Prepared,
    answer: mpsc::SyncSender<io::Result<Forked>>,
}

static SPAWNER: Mutex<Option<mpsc::Sender<Request>>> = Mutex::new(None);

/// Starts `command` on the spawner thread and waits until it executes.
pub(crate) fn spawn(command: Command) -> Result<RawChild, ProcessError> {
    let program = command.program_name();
    let start = |source| ProcessError::Start {
        program: program.clone(),
        source,
    };
    let file = command.resolve()?;
    let mut arguments = vec![command.c_string(&command.program)?];
    for argument in &command.arguments {
        arguments.push(command.c_string(argument)?);
    }
    let mut environment = command.environment_block()?;
    let directory = match &command.directory {
        Some(directory) => Some(command.c_string(directory)?),
        None => None,
    };
    let file = command.c_string(file)?;

    let Command {
        stdin,
        stdout,
        stderr,
        inherited,
        supervised,
        original_limits,
        without_capabilities,
        ..
    } = command;
    let floor = inherited
        .iter()
        .map(|(number, _)| *number)
        .max()
        .unwrap_or(2)
        .max(2)
        + 1;
    let (failure_read, failure_write) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| start(error.into()))?;
    let failure = above(floor, &failure_write).map_err(start)?;
    // The pipe must end with the child's copy.
    drop(failure_write);
    let mut files = Vec::new();
    let mut ours = [None, None, None];
    for (number, stdio) in [(0, stdin), (1, stdout), (2, stderr)] {
        let (theirs, kept) = standard_stream(number, stdio).map_err(start)?;
        files.push((number, above(floor, &theirs).map_err(start)?));
        ours[number as usize] = kept;
    }
    for (number, fd) in inherited {
        if number < 3 {
            return Err(start(io::Error::other(
                "inherited files have numbers from 3 on",
            )));
        }
        files.push((number, above(floor, &fd).map_err(start)?));
    }

    let (watched, lifeline) = if supervised {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| start(error.into()))?;
        let mark = mark();
        environment.push(mark.clone());
        let lifeline = above(floor, &theirs).map_err(start)?;
        (Some(Watched { lifeline, mark }), Some(ours))
    } else {
        (None, None)
    };

    let prepared = Prepared {
        file,
        arguments,
        environment,
        directory,
        files,
        failure,
        limits: if original_limits {
            limits::original()
        } else {
            Vec::new()
        },
        without_capabilities,
        watched,
    };
    let Forked { pid, watchdog } = fork_on_spawner(prepared)
        .map_err(|source| ProcessError::Spawner {
            program: program.clone(),
            source,
        })?
        .map_err(start)?;

    let watchdog = watchdog
        .zip(lifeline)
        .map(|(pid, lifeline)| Watchdog::new(pid, lifeline));
    // The spawner dropped its copy of `failure`, so the pipe ends with the exec or the child.
    let mut error = Vec::new();
    let told = File::from(failure_read).read_to_end(&mut error);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from);
    match (told, <[u8; 4]>::try_from(error.as_slice()), pidfd) {
        (Ok(0), _, Ok(pidfd)) => {
            let [stdin, stdout, stderr] = ours;
            Ok(RawChild {
                pid,
                pidfd,
                stdin,
                stdout,
                stderr,
                watchdog,
            })
        }
        (told, number, pidfd) => {
            drop(watchdog);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            Err(start(match (told, number, pidfd) {
                (_, Ok(number), _) => io::Error::from_raw_os_error(i32::from_ne_bytes(number)),
                (Err(error), ..) | (.., Err(error)) => error,
                _ => io::Error::other("the child died before it could execute"),
            }))
        }
    }
}

/// An entry of the environment that no other command has.
fn mark() -> CString {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Numbers of processes come again, times do not.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_nanos();
    let mark = format!("PROVIUM_COMMAND={}-{number}-{now}", std::process::id());
    CString::new(mark).unwrap_or_default()
}

/// The outer error is the thread's, the inner one the fork's.
fn fork_on_spawner(prepared: Prepared) -> io::Result<io::Result<Forked>> {
    let (answer, answered) = mpsc::sync_channel(1);
    let mut request = Request { prepared, answer };
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(sender) = spawner.as_ref() {
            match sender.send(request) {
                Ok(()) => break,
                Err(unsent) => request = unsent.0,
            }
        }
        let (sender, requests) = mpsc::channel();
        std::thread::Builder::new()
            .name("provium-spawner".to_owned())
            .spawn(move || serve(&requests))?;
        *spawner = Some(sender);
    }
    drop(spawner);
    answered
        .recv()
        .map_err(|_| io::Error::other("the spawner thread is gone"))
}

/// The spawner thread. The sender lives in a static, so this never returns.
fn serve(requests: &mpsc::Receiver<Request>) {
    sys::block_all_signals();
    while let Ok(Request { prepared, answer }) = requests.recv() {
        let forked = sys::fork_exec(&prepared);
        drop(prepared);
        // The asker waits without a way to give up, so it is there.
        let _ = answer.send(forked);
    }
}

/// The child's file for a standard stream, and the end that stays here.
fn standard_stream(number: RawFd, stdio: Stdio) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    Ok(match stdio {
        Stdio::Null => {
            let null = File::options()
                .read(number == 0)
                .write(number != 0)
                .open("/dev/null")?;
            (null.into(), None)
        }
        Stdio::Pipe => {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            let (theirs, ours) = if number == 0 {
                (read, write)
            } else {
                (write, read)
            };
            // Only our end: blocking is what ordinary programs expect of theirs.
            rustix::io::ioctl_fionbio(&ours, true)?;
            (theirs, Some(ours))
        }
        Stdio::Inherit => {
            let own = match number {
                0 => io::stdin().as_fd().try_clone_to_owned(),
                1 => io::stdout().as_fd().try_clone_to_owned(),
                _ => io::stderr().as_fd().try_clone_to_owned(),
            };
            (own?, None)
        }
        Stdio::Fd(fd) => (fd, None),
    })
}

fn above(floor: RawFd, fd: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(fd, floor)?)
}
