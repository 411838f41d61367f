//! Becoming a command: from an [`Exec`] to the program, with pipes of which the executor has the other
//! ends.
//!
//! The pipes (or the terminal) are made after the process has become the command's user, so that the
//! user may open them by name, as `/dev/stdout` and `/proc/self/fd/1` do.

use super::identity::{self, User};
use super::operation::{Operation, with_room};
use crate::failure::{self, OpResult};
use crate::sys::slot::PipeEnd;
use crate::sys::{Errno, Sys, fd, file, signal, spawn, terminal};
use provium_protocol::WireError;
use provium_protocol::op::{Exec, Program, Stdin, WindowSize};
use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How often and how long a program is retried that is open for writing (`ETXTBSY`). A writer that was just
/// starting a program of its own is gone by then.
const BUSY_TRIES: u32 = 50;
const BUSY_WAIT: Duration = Duration::from_millis(4);

/// Becomes the command. Returns only on failure.
pub(super) fn run(operation: &Operation, exec: Exec) -> OpResult {
    match become_command(operation, exec) {
        Ok(never) => match never {},
        Err(error) => Err(error),
    }
}

fn become_command(operation: &Operation, exec: Exec) -> Result<Infallible, WireError> {
    let user = match &exec.user {
        Some(name) => Some(identity::find(name)?),
        None => None,
    };
    let environment = environment(&exec, user.as_ref());
    let (program, arguments) = arguments(exec.program)?;
    let candidates = strings(candidates(&program, &environment))?;
    let arguments = strings(arguments)?;
    let environment = strings(environment.into_iter().map(|(mut name, value)| {
        name.push(b'=');
        name.extend(value);
        name
    }))?;
    if let Some(user) = &user {
        user.identity
            .assume()
            .map_err(|errno| failure::os("become the user", errno))?;
    }
    let (own, _theirs) = if exec.tty {
        open_terminal(operation, exec.window)
            .map_err(|errno| failure::os("open a terminal", errno))?
    } else {
        let has_input = exec.stdin != Stdin::Null;
        open_pipes(operation, has_input).map_err(|errno| failure::os("open pipes", errno))?
    };
    operation.hand_over();
    for (number, source) in (0..).zip(&own) {
        fd::copy_to_inheritable(source.as_raw_fd(), number)
            .map_err(|errno| failure::os("set up standard input and output", errno))?;
    }
    if exec.tty {
        terminal::take_control(0).map_err(|errno| failure::os("take the terminal", errno))?;
    }
    if let Some(cwd) = &exec.cwd {
        file::change_dir(cwd).map_err(|errno| {
            failure::os(format!("chdir {}", String::from_utf8_lossy(cwd)), errno)
        })?;
    }
    signal::unblock_all();
    let errno = execute(&candidates, &arguments, &environment);
    let program = String::from_utf8_lossy(&program);
    Err(failure::os(format!("exec {program}"), errno))
}

/// Tries the candidates as `execvp(3)` does: continues after `ENOENT`, `ENOTDIR` and `EACCES`, and
/// reports `EACCES` if no candidate could be executed.
fn execute(candidates: &[CString], arguments: &[CString], environment: &[CString]) -> Errno {
    let mut worst = Errno::NOENT;
    for file in candidates {
        let mut errno = spawn::replace(file, arguments, environment);
        let mut tries = 0;
        while errno == Errno(libc::ETXTBSY) && tries < BUSY_TRIES {
            std::thread::sleep(BUSY_WAIT);
            tries += 1;
            errno = spawn::replace(file, arguments, environment);
        }
        match errno {
            Errno(libc::ENOENT | libc::ENOTDIR) => {}
            Errno(libc::EACCES) => worst = Errno(libc::EACCES),
            other => return other,
        }
    }
    worst
}

/// What the command gets as descriptors 0, 1 and 2; and the executor's ends, until it has them.
type PipeEnds = ([OwnedFd; 3], Vec<OwnedFd>);

fn open_pipes(operation: &Operation, has_input: bool) -> Sys<PipeEnds> {
    let (stdin, mut theirs) = if has_input {
        let (own, their) = operation.make_pipe(PipeEnd::Input)?;
        (own, vec![their])
    } else {
        (with_room(null)?, Vec::new())
    };
    let (stdout, their_stdout) = operation.make_pipe(PipeEnd::Output)?;
    let (stderr, their_stderr) = operation.make_pipe(PipeEnd::Error)?;
    let (exec, their_exec) = operation.make_pipe(PipeEnd::Exec)?;
    // It closes by itself when the command begins.
    std::mem::forget(exec);
    theirs.extend([their_stdout, their_stderr, their_exec]);
    Ok((above_standard([stdin, stdout, stderr])?, theirs))
}

fn open_terminal(operation: &Operation, window: WindowSize) -> Sys<PipeEnds> {
    let (master, slave) = with_room(|| terminal::open_pair(window))?;
    operation.offer(PipeEnd::Input, master.as_raw_fd());
    operation.offer(PipeEnd::Output, master.as_raw_fd());
    let (exec, their_exec) = operation.make_pipe(PipeEnd::Exec)?;
    std::mem::forget(exec);
    let copy = || {
        with_room(|| {
            Ok(fd::move_up(
                slave.try_clone().map_err(|_| Errno::last())?,
                3,
            ))
        })
    };
    let own = [copy()?, copy()?, copy()?];
    Ok((own, vec![master, their_exec]))
}

/// Moves ends whose descriptors are 0, 1 or 2 to higher numbers.
fn above_standard(ends: [OwnedFd; 3]) -> Sys<[OwnedFd; 3]> {
    Ok(ends.map(|end| {
        if end.as_raw_fd() < 3 {
            fd::move_up(end, 3)
        } else {
            end
        }
    }))
}

/// Nothing to read: the read end of a pipe without writers, if `/dev/null` cannot be opened.
fn null() -> Sys<OwnedFd> {
    match file::open_str("/dev/null", libc::O_RDWR) {
        Err(_) => fd::pipe().map(|(read, _)| read),
        found => found,
    }
}

fn string(bytes: Vec<u8>) -> Result<CString, WireError> {
    CString::new(bytes).map_err(|_| failure::invalid("a zero byte in an argument or variable"))
}

fn strings(list: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<CString>, WireError> {
    list.into_iter().map(string).collect()
}

/// The program's name and all arguments, the zeroth included.
fn arguments(program: Program) -> Result<(Vec<u8>, Vec<Vec<u8>>), WireError> {
    match program {
        Program::Shell(text) => {
            let shell = b"/bin/sh".to_vec();
            Ok((shell.clone(), vec![shell, b"-c".to_vec(), text.into_vec()]))
        }
        Program::Argv(list) => {
            let list: Vec<Vec<u8>> = list
                .into_iter()
                .map(|argument| argument.into_vec())
                .collect();
            match list.first() {
                Some(first) if !first.is_empty() => Ok((first.clone(), list)),
                _ => Err(failure::invalid("a command needs a program")),
            }
        }
    }
}

type Variables = Vec<(Vec<u8>, Vec<u8>)>;

fn set(variables: &mut Variables, name: &[u8], value: &[u8]) {
    match variables.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value.to_vec(),
        None => variables.push((name.to_vec(), value.to_vec())),
    }
}

fn environment(exec: &Exec, user: Option<&User>) -> Variables {
    let mut variables = Variables::new();
    if !exec.env_clear {
        set(&mut variables, b"PATH", DEFAULT_PATH);
        set(&mut variables, b"TERM", b"linux");
        set(&mut variables, b"HOME", b"/root");
        if let Some(user) = user {
            set(&mut variables, b"HOME", &user.home);
            set(&mut variables, b"USER", &user.name);
            set(&mut variables, b"LOGNAME", &user.name);
        }
    }
    for (name, value) in &exec.env {
        set(&mut variables, name, value);
    }
    variables
}

/// The files that a program's name may refer to.
fn candidates(program: &[u8], environment: &Variables) -> Vec<Vec<u8>> {
    if program.contains(&b'/') {
        return vec![program.to_vec()];
    }
    let path = environment.iter().find(|(name, _)| name == b"PATH");
    let path = path.map_or(DEFAULT_PATH, |(_, value)| value);
    let folders = path.split(|byte| *byte == b':');
    folders
        .map(|folder| {
            let mut file = if folder.is_empty() {
                b".".to_vec()
            } else {
                folder.to_vec()
            };
            file.push(b'/');
            file.extend_from_slice(program);
            file
        })
        .collect()
}
