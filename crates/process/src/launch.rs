//! From a [`Command`] to a running [`Child`]: prepares what the kernel needs, forks, and waits for the
//! `execve`.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

use crate::child::{Child, RawChild, Watchdog};
use crate::command::{Command, Stdio};
use crate::error::ProcessError;
use crate::limits;
use crate::spawner;
use crate::sys::{ExecArgs, ForkedChild, WatchdogArgs};

impl Command {
    /// Starts the child. Must be called inside a tokio runtime with I/O; blocks for the length of a
    /// fork and an exec.
    ///
    /// # Errors
    /// [`ProcessError::NotFound`] if the program does not exist, [`ProcessError::Start`] if the kernel
    /// refuses it.
    pub fn spawn(self) -> Result<Child, ProcessError> {
        let program = self.program_name();
        start(self).and_then(|raw| Child::watch(program, raw))
    }
}

/// Starts `command` on the spawner thread and waits until it executes.
fn start(command: Command) -> Result<RawChild, ProcessError> {
    let program = command.program_name();
    let failed = |source| ProcessError::Start {
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
    let floor = floor(&inherited);
    let (failure_read, failure_write) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let failure = above(floor, &failure_write).map_err(failed)?;
    // The pipe must end with the child's copy.
    drop(failure_write);
    let mut files = Vec::new();
    let mut ours = [None, None, None];
    for (number, stdio) in [(0, stdin), (1, stdout), (2, stderr)] {
        let (theirs, own) = standard_stream(number, stdio).map_err(failed)?;
        files.push((number, above(floor, &theirs).map_err(failed)?));
        ours[number as usize] = own;
    }
    for (number, fd) in inherited {
        if number < 3 {
            return Err(failed(io::Error::other(
                "inherited files have numbers from 3 on",
            )));
        }
        files.push((number, above(floor, &fd).map_err(failed)?));
    }

    let (watchdog, lifeline) = if supervised {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
        let mark = mark();
        environment.push(mark.clone());
        let lifeline = above(floor, &theirs).map_err(failed)?;
        (Some(WatchdogArgs { lifeline, mark }), Some(ours))
    } else {
        (None, None)
    };

    let exec = ExecArgs {
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
        watchdog,
    };
    let ForkedChild { pid, watchdog } = spawner::fork(exec)
        .map_err(|source| ProcessError::Spawner {
            program: program.clone(),
            source,
        })?
        .map_err(failed)?;

    let watchdog = watchdog
        .zip(lifeline)
        .map(|(pid, lifeline)| Watchdog::new(pid, lifeline));
    // The spawner dropped its copy of `failure`, so the pipe ends with the exec or the child.
    let executed = wait_for_exec(pid, failure_read);
    let [stdin, stdout, stderr] = ours;
    match executed {
        Ok(pidfd) => Ok(RawChild {
            pid,
            pidfd,
            stdin,
            stdout,
            stderr,
            watchdog,
        }),
        Err(error) => {
            drop(watchdog);
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
            Err(failed(error))
        }
    }
}

/// A number above those of all files that the child gets.
fn floor(inherited: &[(RawFd, OwnedFd)]) -> RawFd {
    let numbers = inherited.iter().map(|(number, _)| *number);
    numbers.max().unwrap_or(2).max(2) + 1
}

/// Waits until the child executes; its pidfd. `failure` ends without a byte then, and otherwise has the errno.
fn wait_for_exec(pid: Pid, failure: OwnedFd) -> io::Result<OwnedFd> {
    let mut error = Vec::new();
    let reported = File::from(failure).read_to_end(&mut error);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from);
    match (reported, <[u8; 4]>::try_from(error.as_slice()), pidfd) {
        (Ok(0), _, Ok(pidfd)) => Ok(pidfd),
        (_, Ok(number), _) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number))),
        (Err(error), ..) | (.., Err(error)) => Err(error),
        _ => Err(io::Error::other("the child died before it could execute")),
    }
}

/// An entry of the environment that no other command has.
fn mark() -> CString {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Process ids are reused, times are not.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_nanos();
    let mark = format!("PROVIUM_COMMAND={}-{number}-{now}", std::process::id());
    CString::new(mark).unwrap_or_default()
}

/// The child's file for a standard stream, and the end that this process keeps.
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
            // Only the end of this process: ordinary programs expect theirs to block.
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

/// A copy of `fd` with a number of at least `floor`.
fn above(floor: RawFd, fd: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(fd, floor)?)
}
